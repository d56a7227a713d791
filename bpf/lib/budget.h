/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose connections fill conntrack, and whether there may be more of them: see SLUICE_CT_OWNERS. */
#ifndef SLUICE_LIB_BUDGET_H
#define SLUICE_LIB_BUDGET_H

#include "lib/conntrack.h"

static __always_inline __u32 ct_owner(const struct sluice_packet *pkt)
{
	if (pkt->src_endpoint)
		return pkt->src_endpoint;
	return SLUICE_MAX_ENDPOINTS + pkt->dst_endpoint;
}

static __always_inline __s64 *ct_use(__u32 owner)
{
	return bpf_map_lookup_elem(&conntrack_use, &owner);
}

static __always_inline void ct_use_change(__u32 owner, __s64 by)
{
	__s64 *of_owner = ct_use(owner), *of_all = ct_use(SLUICE_CT_USE_ALL);

	if (owner < SLUICE_CT_OWNERS && of_owner)
		__sync_fetch_and_add(of_owner, by);
	if (of_all)
		__sync_fetch_and_add(of_all, by);
}

/* 0, -EEXIST or -E2BIG, as ct_insert(). */
static __always_inline long ct_add(const struct sluice_config *cfg, const struct sluice_ct_key *key, __u64 hash,
				   const struct sluice_ct_entry *entry, enum ct_yield yield)
{
	__u32 replaced = 0;
	long result = ct_insert(cfg, key, hash, entry, yield, &replaced);

	if (result < 0)
		return result;
	if (result > 0 && replaced == entry->owner)
		return 0;
	if (result > 0)
		ct_use_change(replaced, -1);
	ct_use_change(entry->owner, 1);
	return 0;
}

/* False: it was gone already. `seal`: see ct_erase(). */
static __always_inline bool ct_remove(const struct sluice_config *cfg, const struct sluice_ct_key *key, __u64 hash,
				      __u64 seal)
{
	__u32 owner;

	if (!ct_erase(cfg, key, hash, seal, &owner))
		return false;
	ct_use_change(owner, -1);
	return true;
}

/* Looks at sets for a new connection. */
#define CT_LOOKS 2
#define CT_LOOKS_SHORT 4
#define CT_SPARED 4

/*
 * For a new connection: makes room by what is over, if the table is crowded. A connection makes up to three entries, and
 * its group has four places a set. It looks at the set of its key and at others as the hand of a clock does: each set's turn
 * comes before the group's connections have filled it, so what is over takes about a quarter of the room at most; half as
 * much where the connection's owner is half way to its share, since what is over counts as the owner's.
 * A look costs about 40 ns, most of it for entries that no cache holds. Where one connection found nothing, the next ones of
 * the group are spared: a table full of what lives costs a fifth of the looks, and what is over is found as soon.
 */
static __always_inline void ct_reclaim(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	const __s64 *of_owner = ct_use(ct_owner(pkt)), *of_all = ct_use(SLUICE_CT_USE_ALL);
	__s64 room = (__s64)cfg->conntrack_groups * SLUICE_CT_GROUP_ENTRIES;
	int looks = CT_LOOKS;
	struct ct_home home;
	__u32 found = 0;

	if (!of_owner || !of_all || *of_all * SLUICE_CT_CROWDED <= room ||
	    !ct_home_make(&home, cfg, sluice_ct_hash(&pkt->ct_key, cfg->conntrack_secret)))
		return;
	/* Not under the lock: where CPUs meet, a connection is spared too many or too few. */
	if (home.group->spared) {
		home.group->spared--;
		return;
	}
	if (*of_owner * 2 > room - *of_all)
		looks = CT_LOOKS_SHORT;
	for (int look = 0; look < CT_LOOKS_SHORT && look < looks; look++) {
		struct ct_removed removed = {};

		ct_clear(&home, look > 0, pkt->now_ns, &removed);
		found |= removed.ways;
		for (int way = SLUICE_CT_WAYS - 1; way >= 0; way--) {
			if (removed.ways >> way & 1)
				ct_use_change((__u16)removed.owners_low, -1);
			removed.owners_low = removed.owners_low >> 16 | removed.owners_high << 48;
			removed.owners_high >>= 16;
		}
	}
	if (!found)
		home.group->spared = CT_SPARED;
}

/* May the packet open a connection? */
static __always_inline __u32 ct_budget(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	const __s64 *of_owner = ct_use(ct_owner(pkt)), *of_all = ct_use(SLUICE_CT_USE_ALL);
	__s64 free;

	if (!of_owner || !of_all)
		return SLUICE_DROP_MAP_MISSING;
	free = (__s64)cfg->conntrack_groups * SLUICE_CT_GROUP_ENTRIES - *of_all;
	if (likely(*of_owner < free))
		return SLUICE_DROP_NONE;
	return free > 0 ? SLUICE_DROP_CT_BUDGET : SLUICE_DROP_CT_FULL;
}

#endif
