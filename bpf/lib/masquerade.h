/* SPDX-License-Identifier: GPL-2.0-only */
/* The ports of masqueraded connections: one is reserved by inserting the alias, which must not exist. */
#ifndef SLUICE_LIB_MASQUERADE_H
#define SLUICE_LIB_MASQUERADE_H

#include <linux/errno.h>

#include "lib/budget.h"

static __always_inline __u32 ct_insert_failed(long error)
{
	return error == -EBUSY ? SLUICE_DROP_CT_BUSY : SLUICE_DROP_CT_FULL;
}

static __always_inline bool masquerade_port(const struct sluice_config *cfg, __be16 port_be)
{
	__u16 port = bpf_ntohs(port_be);

	return port >= cfg->snat_port_min && port <= cfg->snat_port_max;
}

static __always_inline __be16 masquerade_port_any(const struct sluice_config *cfg)
{
	__u32 ports = (__u32)cfg->snat_port_max - cfg->snat_port_min + 1;

	return bpf_htons((__u16)(cfg->snat_port_min + bpf_get_prandom_u32() % ports));
}

/* Whose address the other end sees. `local`: SLUICE_CT_SNAT_LOCAL or SLUICE_PKT_SNAT_LOCAL is set. */
static __always_inline const struct sluice_addr *masquerade_addr(const struct sluice_config *cfg, bool local)
{
	return local ? &cfg->local_snat_ipv4 : &cfg->node_ipv4;
}

static __always_inline void alias_key_of(const struct sluice_packet *pkt, struct sluice_ct_key *key)
{
	struct tuple outside = { &pkt->nat_addr, &pkt->dst, pkt->nat_port_be, pkt->dport_be, pkt->proto };

	alias_key_make(key, &outside);
}

/* Takes pkt->nat_port_be: 0, -EEXIST if it is another connection's, or the kernel's error. `short_of_ports`: also from
 * one that was closed a while ago, though its other end may still remember it. */
static __always_inline long port_take(const struct sluice_packet *pkt, struct sluice_ct_entry *alias,
				      bool short_of_ports)
{
	struct ct_snapshot found;
	struct sluice_ct_key key;
	long error;

	alias_key_of(pkt, &key);
	alias->seal = sluice_ct_seal(sluice_ct_hash(&key), &alias->nat);
	alias->progress = sluice_ct_progress_word(alias->seal, 0);
	error = ct_add(&key, alias);
	if (error != -EEXIST)
		return error;
	if (ct_find(&key, &found) != CT_FOUND)
		return -EEXIST;
	if (found.seal == alias->seal) {
		/* This very connection's, which begins anew. */
		found.entry->progress = alias->progress;
		found.entry->last_seen_ns = alias->last_seen_ns;
		return 0;
	}
	if (!ct_expired(&found, pkt->proto, pkt->now_ns) &&
	    !(short_of_ports && ct_progress(&found) & SLUICE_CT_CLOSED &&
	      ct_idle(&found, pkt->now_ns, SLUICE_CT_TCP_CLOSED_S * SLUICE_NS_PER_S)))
		return -EEXIST;
	if (!ct_remove(&key, found.entry->owner))
		return -EEXIST;
	return ct_add(&key, alias);
}

/* Reserves a port; pkt->nat_port_be holds the connection's former one, if it had one. */
static __always_inline __u32 port_reserve(struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct sluice_ct_entry alias = {
		.last_seen_ns = pkt->now_ns,
		.nat = { .addr = pkt->src, .port_be = pkt->sport_be, .flags = SLUICE_CT_ALIAS },
		.owner = ct_owner(pkt),
	};
	__be16 next_be = masquerade_port_any(cfg);
	long error;

	addr_copy(&pkt->nat_addr, masquerade_addr(cfg, pkt->flags & SLUICE_PKT_SNAT_LOCAL));
	for (int i = 0; i < SLUICE_SNAT_TRIES; i++) {
		if (i || !pkt->nat_port_be) {
			pkt->nat_port_be = next_be;
			next_be = bpf_htons(next_be == bpf_htons(cfg->snat_port_max) ? cfg->snat_port_min :
										       bpf_ntohs(next_be) + 1);
		}
		error = port_take(pkt, &alias, i >= SLUICE_SNAT_TRIES / 2);
		if (!error)
			return SLUICE_DROP_NONE;
		if (error != -EEXIST)
			return ct_insert_failed(error);
	}
	return SLUICE_DROP_SNAT_PORTS_EXHAUSTED;
}

static __always_inline void port_release(const struct sluice_packet *pkt)
{
	struct sluice_ct_key key;

	alias_key_of(pkt, &key);
	ct_remove(&key, ct_owner(pkt));
}

#endif
