/* SPDX-License-Identifier: GPL-2.0-only */
/* The ports of masqueraded connections: one is reserved by inserting the alias, which must not exist. */
#ifndef SLUICE_LIB_MASQUERADE_H
#define SLUICE_LIB_MASQUERADE_H

#include <linux/errno.h>

#include "lib/budget.h"

static __always_inline __be16 masquerade_port_any(const struct sluice_config *cfg)
{
	__u32 ports = (__u32)cfg->snat_port_max - cfg->snat_port_min + 1;

	return bpf_htons((__u16)(cfg->snat_port_min + bpf_get_prandom_u32() % ports));
}

static __always_inline void alias_key_of(const struct sluice_packet *pkt, struct sluice_ct_key *key)
{
	struct tuple outside = { &pkt->nat_addr, &pkt->dst, pkt->nat_port_be, pkt->dport_be, pkt->proto };

	alias_key_make(key, &outside);
}

/* Takes pkt->nat_port_be: 0, -EEXIST if it is another connection's, or -E2BIG. */
static __always_inline long port_take(const struct sluice_packet *pkt, const struct sluice_config *cfg,
				      struct sluice_ct_entry *alias, enum ct_yield from)
{
	struct sluice_ct_key key;
	__u64 hash;

	alias_key_of(pkt, &key);
	hash = sluice_ct_hash(&key, cfg->conntrack_secret);
	alias->seal = sluice_ct_seal(hash, &alias->nat);
	alias->progress = sluice_ct_progress_word(alias->seal, 0);
	return ct_add(cfg, &key, hash, alias, from);
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
		/* Where ports are short, also one whose other end may still remember it. */
		error = port_take(pkt, cfg, &alias, i < SLUICE_SNAT_TRIES / 2 ? CT_OVER : CT_CLOSED);
		if (!error)
			return SLUICE_DROP_NONE;
		if (error != -EEXIST)
			return SLUICE_DROP_CT_FULL;
	}
	return SLUICE_DROP_SNAT_PORTS_EXHAUSTED;
}

static __always_inline void port_release(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct sluice_ct_key key;

	alias_key_of(pkt, &key);
	ct_remove(cfg, &key, sluice_ct_hash(&key, cfg->conntrack_secret));
}

#endif
