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

static __always_inline bool ct_expired(const struct sluice_ct_entry *entry, __u8 proto, __u64 now_ns)
{
	/* Signed: another CPU may have renewed the entry after this packet's clock was read. */
	return (__s64)(now_ns - entry->last_seen_ns) > (__s64)sluice_ct_lifetime_ns(proto, entry->flags);
}

#define CT_PROGRESS \
	(SLUICE_CT_REPLIED | SLUICE_CT_FIN_ORIGIN | SLUICE_CT_FIN_REPLY | SLUICE_CT_CLOSED)

/* The outside's tuple of a masqueraded connection. An echo has one identifier for both ports. */
static __always_inline void alias_key_make(struct sluice_ct_key *key, const struct tuple *outside)
{
	struct tuple tuple = *outside;

	if (tuple.proto == IPPROTO_ICMP)
		tuple.dport_be = tuple.sport_be;
	ct_key_make(key, &tuple);
}

/* Renews the entry and takes note of the packet's part in the connection's life. Two CPUs may lose one
 * another's flags: then the entry only lives longer. Returns whether an alias has to be told. */
static __always_inline bool ct_touch(struct sluice_ct_entry *entry, const struct sluice_packet *pkt)
{
	bool reply = pkt->flags & SLUICE_PKT_REPLY;
	__u16 flags = entry->flags;

	if (reply)
		flags |= SLUICE_CT_REPLIED;
	if (pkt->flags & SLUICE_PKT_TCP_FIN)
		flags |= reply ? SLUICE_CT_FIN_REPLY : SLUICE_CT_FIN_ORIGIN;
	if (pkt->flags & SLUICE_PKT_TCP_RST ||
	    (flags & SLUICE_CT_FIN_ORIGIN && flags & SLUICE_CT_FIN_REPLY))
		flags |= SLUICE_CT_CLOSED;
	if (flags == entry->flags &&
	    (__s64)(pkt->now_ns - entry->last_seen_ns) < (__s64)SLUICE_CT_RENEW_NS)
		return false;
	entry->flags = flags;
	entry->last_seen_ns = pkt->now_ns;
	return flags & SLUICE_CT_MASQUERADE;
}

/* The alias lives as long as its connection, so that its port is not given to another one. */
static __always_inline void alias_touch(const struct sluice_ct_entry *entry,
					const struct sluice_packet *pkt)
{
	bool reply = pkt->flags & SLUICE_PKT_REPLY;
	struct tuple outside = { &entry->nat_addr, reply ? &pkt->src : &pkt->dst, entry->nat_port_be,
				 reply ? pkt->sport_be : pkt->dport_be, pkt->proto };
	struct sluice_ct_entry *alias;
	struct sluice_ct_key ADDR_ON_STACK key;

	alias_key_make(&key, &outside);
	alias = bpf_map_lookup_elem(&conntrack, &key);
	if (!alias || !(alias->flags & SLUICE_CT_ALIAS))
		return;
	alias->flags = SLUICE_CT_ALIAS | (entry->flags & CT_PROGRESS);
	alias->last_seen_ns = pkt->now_ns;
}

#endif
