/* SPDX-License-Identifier: GPL-2.0-only */
/* Fragments on their way out. A first fragment tells nothing to those that follow until it has itself been let through. */
#ifndef SLUICE_LIB_FRAGMENT_H
#define SLUICE_LIB_FRAGMENT_H

#include "lib/checksum.h"
#include "lib/parse.h"

/* Of 65,536 identifications the table can hold an eighth at most. */
#define FRAGMENT_ID_TRIES 8

/* An identification that no other datagram has between the address that the packet now bears and its receiver; 0: none. */
static __always_inline __u16 fragment_id_take(const struct sluice_packet *pkt)
{
	struct sluice_fragment ADDR_ON_STACK given = { .seen_ns = pkt->now_ns };
	struct sluice_fragment_key ADDR_ON_STACK key = {
		.src = pkt->nat_addr, .dst = pkt->dst, .proto = pkt->proto, .view = SLUICE_FRAGMENT_GIVEN };
	const volatile struct sluice_fragment *found;

	for (int i = 0; i < FRAGMENT_ID_TRIES; i++) {
		key.id = bpf_get_prandom_u32() % 0xffff + 1;
		if (!bpf_map_update_elem(&fragments, &key, &given, BPF_NOEXIST))
			return key.id;
		found = bpf_map_lookup_elem(&fragments, &key);
		if (found && pkt->now_ns - found->seen_ns > FRAGMENT_LIFETIME_NS &&
		    !bpf_map_update_elem(&fragments, &key, &given, BPF_EXIST))
			return key.id;
	}
	return 0;
}

/* The identification that the same first fragment was given before; 0: it was not. */
static __always_inline __u16 fragment_id_again(const struct sluice_packet *pkt)
{
	struct sluice_fragment fragment;

	if (!fragment_find(pkt, &fragment) || fragment.first.sport_be != pkt->fragment_first.sport_be ||
	    fragment.first.dport_be != pkt->fragment_first.dport_be)
		return 0;
	return fragment.first.given_id;
}

static __always_inline void fragment_id_choose(struct sluice_packet *pkt)
{
	__u16 id = fragment_id_again(pkt);

	pkt->fragment_first.given_id = id ?: fragment_id_take(pkt);
}

/* Gives a fragment whose source is translated the identification that its datagram has under the new one. */
static __always_inline __u32 fragment_translate(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	struct iphdr *ip;
	__be16 id_be;

	if (!(pkt->flags & (SLUICE_PKT_MASQUERADE | SLUICE_PKT_UNSERVICE)))
		return SLUICE_DROP_NONE;
	if (pkt->flags & SLUICE_PKT_FRAGMENT_FIRST)
		fragment_id_choose(pkt);
	id_be = bpf_htons(pkt->fragment_first.given_id);
	/* Of a later one: its first was not translated. Of a first one: all that were tried are another's. */
	if (!id_be)
		return SLUICE_DROP_FRAGMENT_UNKNOWN;
	ip = frame_start(skb) + ETH_HLEN;
	if ((void *)(ip + 1) > frame_end(skb))
		return SLUICE_DROP_REWRITE_FAILED;
	ip->check = checksum_change(ip->check, ip->id, id_be);
	ip->id = id_be;
	return SLUICE_DROP_NONE;
}

static __always_inline void fragment_remember(const struct sluice_packet *pkt)
{
	struct sluice_fragment value = { .seen_ns = pkt->now_ns, .first = pkt->fragment_first };

	value.seal = sluice_fragment_seal(&pkt->fragment, &value.first);
	bpf_map_update_elem(&fragments, &pkt->fragment, &value, BPF_ANY);
}

#endif
