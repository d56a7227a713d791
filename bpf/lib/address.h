/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SLUICE_LIB_ADDRESS_H
#define SLUICE_LIB_ADDRESS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/*
 * Addresses are moved in halves and fields next to each other are written as one word: what a map then
 * hashes and compares in words of four or eight bytes would else wait for the narrower stores to retire.
 * Such words are at multiples of their size, on the stack by an attribute (the verifier insists).
 */
typedef __u64 __attribute__((may_alias)) word64;
typedef __u32 __attribute__((may_alias)) word32;
typedef __u16 __attribute__((may_alias)) word16;
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are put together for little endian");

#define ADDR_ON_STACK __attribute__((aligned(8)))

static __always_inline __u64 addr_half(const struct sluice_addr *addr, int half)
{
	return ((const word64 *)addr)[half];
}

static __always_inline void addr_copy(struct sluice_addr *to, const struct sluice_addr *from)
{
	((word64 *)to)[0] = addr_half(from, 0);
	((word64 *)to)[1] = addr_half(from, 1);
}

static __always_inline void addr_set_v4(struct sluice_addr *addr, __be32 v4_be)
{
	((word64 *)addr)[0] = 0;
	((word64 *)addr)[1] = (__u64)v4_be << 32 | bpf_htonl(0xffff);
}

static __always_inline __be32 addr_v4(const struct sluice_addr *addr)
{
	return addr->word_be[3];
}

static __always_inline bool addr_equal(const struct sluice_addr *a, const struct sluice_addr *b)
{
	return addr_half(a, 1) == addr_half(b, 1) && addr_half(a, 0) == addr_half(b, 0);
}

/* Is `a` before `b` in the order of the bytes? `equal` decides when they are the same. */
static __always_inline bool addr_before(const struct sluice_addr *a, const struct sluice_addr *b,
					bool equal)
{
	if (addr_half(a, 0) != addr_half(b, 0))
		return bpf_be64_to_cpu(addr_half(a, 0)) < bpf_be64_to_cpu(addr_half(b, 0));
	if (addr_half(a, 1) != addr_half(b, 1))
		return bpf_be64_to_cpu(addr_half(a, 1)) < bpf_be64_to_cpu(addr_half(b, 1));
	return equal;
}

/* All zero is "none"; an IPv4 address never is, being mapped. */
static __always_inline bool addr_is_none(const struct sluice_addr *addr)
{
	return !(addr_half(addr, 0) | addr_half(addr, 1));
}

static __always_inline bool v4_is_multicast(__be32 v4_be)
{
	return (v4_be & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || v4_be == bpf_htonl(0xffffffff);
}

/* Never on a wire as a destination (RFC 1122, 3.2.1.3): 0.0.0.0/8 and the loopback's 127.0.0.0/8. */
static __always_inline bool v4_stays_inside(__be32 v4_be)
{
	__be32 net = v4_be & bpf_htonl(0xff000000);

	return !net || net == bpf_htonl(0x7f000000);
}

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return !((*(const word32 *)a ^ *(const word32 *)b) |
		 (*(const word16 *)(a + 4) ^ *(const word16 *)(b + 4)));
}

static __always_inline void mac_copy(__u8 *to, const __u8 *from)
{
	*(word32 *)to = *(const word32 *)from;
	*(word16 *)(to + 4) = *(const word16 *)(from + 4);
}

static __always_inline void mac_key_make(struct sluice_mac_key *key, const __u8 *mac)
{
	((word32 *)key)[0] = *(const word32 *)mac;
	((word32 *)key)[1] = *(const word16 *)(mac + 4);
}

#endif
