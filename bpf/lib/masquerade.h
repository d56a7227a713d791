/* SPDX-License-Identifier: GPL-2.0-only */
/* The ports of masqueraded connections: one is reserved by inserting the alias, which must not exist. Each address has its
 * own, since the address is in the alias's key. */
#ifndef SLUICE_LIB_MASQUERADE_H
#define SLUICE_LIB_MASQUERADE_H

#include <linux/errno.h>

#include "lib/budget.h"

static __always_inline void alias_key_of(const struct sluice_packet *pkt, struct sluice_ct_key *key)
{
	struct tuple outside = { &pkt->nat_addr, &pkt->dst, pkt->nat_port_be, pkt->dport_be, pkt->proto };

	alias_key_make(key, &outside);
}

/* Takes pkt->nat_port_be: 0, -EEXIST if it is another connection's, or -E2BIG. */
static __always_inline long port_take(const struct sluice_packet *pkt, const struct sluice_config *cfg,
				      struct sluice_ct_entry *alias)
{
	struct sluice_ct_key key;
	__u64 hash;

	alias_key_of(pkt, &key);
	hash = sluice_ct_hash(&key, cfg->conntrack_secret);
	alias->seal = sluice_ct_seal(hash, &alias->nat);
	alias->progress = sluice_ct_progress_word(alias->seal, 0);
	return ct_add(cfg, &key, hash, alias, CT_OVER);
}

/* The search for a port goes on from a random one by steps of one random width. */
struct port_walk {
	__u32 at;	/* from snat_port_min on */
	__u32 step;
	__u32 ports;
};

static __always_inline void port_walk_begin(struct port_walk *walk, const struct sluice_config *cfg)
{
	walk->ports = (__u32)cfg->snat_port_max - cfg->snat_port_min + 1;
	walk->at = bpf_get_prandom_u32() % walk->ports;
	walk->step = bpf_get_prandom_u32() % walk->ports + 1;
}

static __always_inline __be16 port_walk_next(struct port_walk *walk, const struct sluice_config *cfg)
{
	__u32 port = cfg->snat_port_min + walk->at;

	walk->at = (walk->at + walk->step) % walk->ports;
	return bpf_htons((__u16)port);
}

/*
 * Does whoever has pkt->nat_port_be yield it, where ports are short? If its connection is over but for what is remembered
 * of it; or if its owner has many more connections than the one who asks, so that nobody takes all ports from others.
 * Connections that were never established go first, others where `any`. `holder`: of the entry; none if the port is free.
 */
static __always_inline bool port_yields(const struct sluice_packet *pkt, const struct sluice_config *cfg, bool any,
					struct ct_snapshot *holder)
{
	const __s64 *mine = ct_use(ct_owner(pkt)), *others;
	struct sluice_ct_key key;
	__u32 progress;
	__u64 hash;

	alias_key_of(pkt, &key);
	hash = sluice_ct_hash(&key, cfg->conntrack_secret);
	holder->entry = ct_lookup(cfg, &key, hash, &holder->place);
	if (!holder->entry)
		return true;
	if (!ct_copy(holder, hash) || !(holder->nat.flags & SLUICE_CT_ALIAS))
		return false;
	progress = ct_progress(holder);
	if (ct_idle(holder, pkt->now_ns, sluice_ct_short_lifetime_ns(pkt->proto, progress)))
		return true;
	others = ct_use(holder->entry->owner);
	return mine && others && *others > 2 * *mine + SLUICE_SNAT_MODEST && (any || !(progress & SLUICE_CT_ASSURED));
}

/* Ends the connection that has pkt->nat_port_be: what it sent later would come to another one. */
static __always_inline void port_free(const struct sluice_packet *pkt, const struct sluice_config *cfg,
				      const struct ct_snapshot *holder)
{
	struct tuple inside = { &holder->nat.addr, &pkt->dst, holder->nat.port_be, pkt->dport_be, pkt->proto };
	struct sluice_ct_key key;
	struct ct_snapshot main;

	if (pkt->proto == IPPROTO_ICMP)
		inside.dport_be = inside.sport_be;
	ct_key_make(&key, &inside);
	if (ct_find(cfg, &key, &main) == CT_FOUND && main.nat.flags & SLUICE_CT_MASQUERADE &&
	    main.nat.snat_port_be == pkt->nat_port_be && masquerade_number(main.nat.flags) == pkt->masquerade_number)
		ct_remove(cfg, &key, sluice_ct_hash(&key, cfg->conntrack_secret), main.seal);
	alias_key_of(pkt, &key);
	ct_remove(cfg, &key, sluice_ct_hash(&key, cfg->conntrack_secret), holder->seal);
}

static __always_inline __u32 port_take_over(struct sluice_packet *pkt, const struct sluice_config *cfg,
					    struct sluice_ct_entry *alias)
{
	struct port_walk walk;
	struct ct_snapshot holder;
	bool yields = false;
	long error;

	port_walk_begin(&walk, cfg);
	walk.step = 1;	/* so that none of a few is left out */
	for (int i = 0; i < SLUICE_SNAT_TRIES / 2 && !yields; i++) {
		pkt->nat_port_be = port_walk_next(&walk, cfg);
		yields = port_yields(pkt, cfg, i >= SLUICE_SNAT_TRIES / 4, &holder);
	}
	if (!yields)
		return SLUICE_DROP_SNAT_PORTS_EXHAUSTED;
	if (holder.entry)
		port_free(pkt, cfg, &holder);
	error = port_take(pkt, cfg, alias);
	if (!error)
		return SLUICE_DROP_NONE;
	return error == -EEXIST ? SLUICE_DROP_SNAT_PORTS_EXHAUSTED : SLUICE_DROP_CT_FULL;
}

/* Reserves a port; pkt->nat_port_be holds the connection's former one, if it had one. */
static __always_inline __u32 port_reserve(struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct sluice_ct_entry alias = {
		.last_seen_ns = pkt->now_ns,
		.nat = { .addr = pkt->src, .port_be = pkt->sport_be, .flags = SLUICE_CT_ALIAS },
		.owner = ct_owner(pkt),
	};
	struct port_walk walk;
	long error;

	masquerade_addr(&pkt->nat_addr, pkt->masquerade_number);
	port_walk_begin(&walk, cfg);
	for (int i = 0; i < SLUICE_SNAT_TRIES / 2; i++) {
		if (i || !pkt->nat_port_be)
			pkt->nat_port_be = port_walk_next(&walk, cfg);
		error = port_take(pkt, cfg, &alias);
		if (!error)
			return SLUICE_DROP_NONE;
		if (error != -EEXIST)
			return SLUICE_DROP_CT_FULL;
	}
	return port_take_over(pkt, cfg, &alias);
}

static __always_inline void port_release(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct sluice_ct_key key;

	alias_key_of(pkt, &key);
	ct_remove(cfg, &key, sluice_ct_hash(&key, cfg->conntrack_secret), 0);
}

#endif
