/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SLUICE_LIB_ADDRESS_H
#define SLUICE_LIB_ADDRESS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

static __always_inline void addr_set_v4(struct sluice_addr *addr, __be32 v4_be)
{
	addr->word_be[0] = 0;
	addr->word_be[1] = 0;
	addr->word_be[2] = bpf_htonl(0xffff);
	addr->word_be[3] = v4_be;
}

static __always_inline __be32 addr_v4(const struct sluice_addr *addr)
{
	return addr->word_be[3];
}

static __always_inline bool addr_equal(const struct sluice_addr *a, const struct sluice_addr *b)
{
	return a->word_be[3] == b->word_be[3] && a->word_be[2] == b->word_be[2] &&
	       a->word_be[1] == b->word_be[1] && a->word_be[0] == b->word_be[0];
}

/* Is `a` before `b` in the order of the bytes? `equal` decides when they are the same. */
static __always_inline bool addr_before(const struct sluice_addr *a, const struct sluice_addr *b,
					bool equal)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (a->word_be[i] != b->word_be[i])
			return bpf_ntohl(a->word_be[i]) < bpf_ntohl(b->word_be[i]);
	return equal;
}

/* All zero is "none"; an IPv4 address never is, being mapped. */
static __always_inline bool addr_is_none(const struct sluice_addr *addr)
{
	return !(addr->word_be[0] | addr->word_be[1] | addr->word_be[2] | addr->word_be[3]);
}

static __always_inline bool v4_is_multicast(__be32 v4_be)
{
	return (v4_be & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || v4_be == bpf_htonl(0xffffffff);
}

/* At most one branch: the two halves are compared at once. Both are at even addresses in a frame. */
static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	const __u16 *x = (const __u16 *)a, *y = (const __u16 *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

static __always_inline void mac_copy(__u8 *to, const __u8 *from)
{
	__u16 *x = (__u16 *)to;
	const __u16 *y = (const __u16 *)from;

	x[0] = y[0];
	x[1] = y[1];
	x[2] = y[2];
}

#endif
