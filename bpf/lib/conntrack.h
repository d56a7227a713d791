/* SPDX-License-Identifier: GPL-2.0-only */
/* Keys, lifetimes and state of connections. */
#ifndef SLUICE_LIB_CONNTRACK_H
#define SLUICE_LIB_CONNTRACK_H

#include <linux/in.h>

#include "lib/packet.h"

struct tuple {
	const struct sluice_addr *src;
	const struct sluice_addr *dst;
	__be16 sport_be;
	__be16 dport_be;
	__u8 proto;
};

/* Fills in the canonical key. True if the source is addr[1]: same as SLUICE_CT_ORIGIN_HIGH, if the source
 * is the originator. */
static __always_inline bool ct_key_make(struct sluice_ct_key *key, const struct tuple *tuple)
{
	bool low = addr_before(tuple->src, tuple->dst, bpf_ntohs(tuple->sport_be) <= bpf_ntohs(tuple->dport_be));
	word64 *ports_and_proto = (word64 *)&key->port_be;

	if (low) {
		addr_copy(&key->addr[0], tuple->src);
		addr_copy(&key->addr[1], tuple->dst);
		*ports_and_proto = tuple->sport_be | (__u64)tuple->dport_be << 16 | (__u64)tuple->proto << 32;
	} else {
		addr_copy(&key->addr[0], tuple->dst);
		addr_copy(&key->addr[1], tuple->src);
		*ports_and_proto = tuple->dport_be | (__u64)tuple->sport_be << 16 | (__u64)tuple->proto << 32;
	}
	return !low;
}

static __always_inline struct tuple packet_tuple(const struct sluice_packet *pkt)
{
	return (struct tuple){ &pkt->src, &pkt->dst, pkt->sport_be, pkt->dport_be, pkt->proto };
}

/* What an entry tells for certain: copied out of it and found to belong together and to the key. */
struct ct_snapshot {
	struct sluice_ct_entry *entry;
	__u64 seal;
	struct sluice_addr ADDR_ON_STACK nat_addr;
	__be16 nat_port_be;
	__u16 flags;
};

enum ct_found {
	CT_ABSENT,
	CT_FOUND,
	CT_TORN,	/* the element was changing hands, twice */
};

/* volatile: what is compared with the seal is what is used later, not the entry read again. */
static __always_inline bool ct_copy(struct ct_snapshot *to, __u64 hash)
{
	const volatile word64 *nat_addr = (const volatile word64 *)&to->entry->nat_addr;
	const volatile word32 *port_and_flags = (const volatile word32 *)&to->entry->nat_port_be;
	word64 *copy = (word64 *)&to->nat_addr;
	__u32 word = *port_and_flags;

	copy[0] = nat_addr[0];
	copy[1] = nat_addr[1];
	to->nat_port_be = word;
	to->flags = word >> 16;
	to->seal = *(const volatile word64 *)&to->entry->seal;
	return to->seal == sluice_ct_seal(hash, &to->nat_addr, to->nat_port_be, to->flags);
}

static __always_inline enum ct_found ct_find(const struct sluice_ct_key *key, struct ct_snapshot *found)
{
	found->entry = bpf_map_lookup_elem(&conntrack, key);
	if (!found->entry)
		return CT_ABSENT;
	if (ct_copy(found, sluice_ct_hash(key)))
		return CT_FOUND;
	/* The next lookup does not meet an element that is not the key's any more. */
	found->entry = bpf_map_lookup_elem(&conntrack, key);
	if (!found->entry)
		return CT_ABSENT;
	return ct_copy(found, sluice_ct_hash(key)) ? CT_FOUND : CT_TORN;
}

static __always_inline __u32 ct_progress(const struct ct_snapshot *ct)
{
	return sluice_ct_progress(ct->seal, *(const volatile __u32 *)&ct->entry->progress);
}

static __always_inline bool ct_expired(const struct ct_snapshot *ct, __u8 proto, __u64 now_ns)
{
	/* Signed: another CPU may have renewed the entry after this packet's clock was read. */
	return (__s64)(now_ns - ct->entry->last_seen_ns) >
	       (__s64)sluice_ct_lifetime_ns(proto, ct_progress(ct));
}

/* Did the live generation admit the connection? */
static __always_inline bool ct_admitted(const struct ct_snapshot *ct)
{
	return ct->entry->stamp == sluice_ct_stamp(ct->seal, live_stamp());
}

/* The outside's tuple of a masqueraded connection. An echo has one identifier for both ports. */
static __always_inline void alias_key_make(struct sluice_ct_key *key, const struct tuple *outside)
{
	struct tuple tuple = *outside;

	if (tuple.proto == IPPROTO_ICMP)
		tuple.dport_be = tuple.sport_be;
	ct_key_make(key, &tuple);
}

/* Renews the entry and takes note of the packet's part in the connection's life. Two CPUs may lose one
 * another's progress: then the entry only lives longer. Returns whether an alias has to be told. */
static __always_inline bool ct_touch(const struct ct_snapshot *ct, const struct sluice_packet *pkt)
{
	bool reply = pkt->flags & SLUICE_PKT_REPLY;
	__u32 progress = ct_progress(ct), word;

	if (reply)
		progress |= SLUICE_CT_REPLIED;
	if (pkt->flags & SLUICE_PKT_TCP_FIN)
		progress |= reply ? SLUICE_CT_FIN_REPLY : SLUICE_CT_FIN_ORIGIN;
	if (pkt->flags & SLUICE_PKT_TCP_RST ||
	    (progress & SLUICE_CT_FIN_ORIGIN && progress & SLUICE_CT_FIN_REPLY))
		progress |= SLUICE_CT_CLOSED;
	word = sluice_ct_progress_word(ct->seal, progress);
	if (word == ct->entry->progress &&
	    (__s64)(pkt->now_ns - ct->entry->last_seen_ns) < (__s64)SLUICE_CT_RENEW_NS)
		return false;
	ct->entry->progress = word;
	ct->entry->last_seen_ns = pkt->now_ns;
	return ct->flags & SLUICE_CT_MASQUERADE;
}

/* The alias lives as long as its connection, so that its port is not given to another one. */
static __always_inline void alias_touch(const struct ct_snapshot *ct, const struct sluice_packet *pkt)
{
	bool reply = pkt->flags & SLUICE_PKT_REPLY;
	const struct sluice_addr *inside = reply ? &pkt->dst : &pkt->src;
	__be16 inside_port_be = reply ? pkt->dport_be : pkt->sport_be;
	struct tuple outside = { &ct->nat_addr, reply ? &pkt->src : &pkt->dst, ct->nat_port_be,
				 reply ? pkt->sport_be : pkt->dport_be, pkt->proto };
	struct sluice_ct_entry *alias;
	struct sluice_ct_key key;
	__u64 seal;

	alias_key_make(&key, &outside);
	alias = bpf_map_lookup_elem(&conntrack, &key);
	seal = sluice_ct_seal(sluice_ct_hash(&key), inside, inside_port_be, SLUICE_CT_ALIAS);
	if (!alias || alias->seal != seal)
		return;
	alias->progress = sluice_ct_progress_word(seal, ct_progress(ct));
	alias->last_seen_ns = pkt->now_ns;
}

/* The connection is admitted anew, in both directions at once. */
static __always_inline void ct_restamp(struct sluice_ct_entry *entry, const struct sluice_packet *pkt)
{
	entry->stamp = sluice_ct_stamp(pkt->ct_seal, pkt->stamp);
}

#endif
