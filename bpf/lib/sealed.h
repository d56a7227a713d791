/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Values of maps that are read without a lock.
 *
 * A program reads a value through the pointer that its lookup gave. RCU keeps the memory until the program ends, but not
 * what is in it. Meanwhile another CPU may delete the key, and the next insertion gives the element to another key
 * without waiting for readers; an LRU hash does so by itself when it is full. Places of conntrack's own table change
 * hands likewise. So a reader may meet the value of another key, or some fields of each. Believed, it would send a packet
 * to the backend of another connection, or judge it by the class of another pod.
 *
 * Therefore such a value has a seal: a hash of its key and of its other fields, made by who writes it. A reader
 * 1. copies the value, each word of it by one load,
 * 2. computes the seal from the key that it looked up and from the copy,
 * 3. believes the copy if that is the seal in the copy, and does not read the element again.
 * A copy that is not believed is as good as none; or the reader looks the key up once more, which leads elsewhere by then.
 * A write through such a pointer may come late as well: struct sluice_ct_entry tells what keeps that harmless.
 *
 *   conntrack      sluice_ct_seal()           lib/conntrack.h
 *   fragments      sluice_fragment_seal()     lib/parse.h
 *   services       sluice_service_seal()      lib/service.h
 *   affinities     sluice_affinity_seal()     lib/service.h
 *   socket_peers   sluice_socket_peer_seal()  lib/socket_peer.h
 *   peers          sluice_peer_bind()         lib/peer_class.h: of each slot one word, which has its seal in it
 *   uplinks        the interface itself       lib/mtu.h: one word
 *
 * `locals` and `hints` (lib/packet.h) need none: the endpoint that they name must have the address itself. An array's
 * elements and a trie's nodes do not change hands while a program runs.
 */
#ifndef SLUICE_LIB_SEALED_H
#define SLUICE_LIB_SEALED_H

#include "lib/address.h"

/* volatile: what is compared with the seal is what is used later, not the element read again. */
static __always_inline __u64 sealed_word(const void *from)
{
	return *(const volatile word64 *)from;
}

/* Both are aligned to words, and `size` is a multiple of them. */
static __always_inline void sealed_copy(void *to, const void *from, __u32 size)
{
#pragma unroll
	for (__u32 at = 0; at < size; at += sizeof(word64))
		*(word64 *)(to + at) = sealed_word(from + at);
}

/* Copies a value. False: it is not the key's. `bound`: what its seal has to be, in terms of the copy. */
#define sealed_read(to, from, bound) (sealed_copy(to, from, sizeof(*(to))), (to)->seal == (bound))

#endif
