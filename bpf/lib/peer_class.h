/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SLUICE_LIB_PEER_CLASS_H
#define SLUICE_LIB_PEER_CLASS_H

#include "lib/sealed.h"

/* The peer's class in a generation slot; SLUICE_NO_CLASS: the element is another address's. `none`: sluice_peer_bind()
 * of the address and class 0. */
static __always_inline __u32 peer_class(const struct sluice_peer *found, __u32 slot, __u64 none)
{
	__u64 bound = sealed_word(&found->bound_class[slot]) ^ none;

	return bound >> 32 ? SLUICE_NO_CLASS : bound;
}

#endif
