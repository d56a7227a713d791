/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of connections (see struct sluice_ct_group). It is made of arrays, which a program reads without a call: in a
 * hash of the kernel's it takes 20 ns more to find an entry and 130 more to insert one (docs/performance.md).
 */
#ifndef SLUICE_LIB_CT_TABLE_H
#define SLUICE_LIB_CT_TABLE_H

#include <linux/errno.h>

#include "lib/packet.h"

#define CT_EACH 0x0001000100010001ULL	/* 1, in each of a word's four tags */
#define CT_NONE SLUICE_CT_WAYS

/* Where a key's entry is, if it is anywhere. */
struct ct_home {
	struct sluice_ct_group *group;
	struct sluice_ct_pool *pool;
	__u32 index;	/* the group's */
	__u32 set[2];
	__u64 tag;	/* four times */
};

static __always_inline bool ct_home_make(struct ct_home *home, const struct sluice_config *cfg, __u64 hash)
{
	/* The upper bits of a product are the better ones: they depend on all of the hash. */
	__u64 mixed = (hash ^ hash >> 32) * SLUICE_HASH_6;

	home->index = (mixed >> 32) * cfg->conntrack_groups >> 32;
	home->group = bpf_map_lookup_elem(&conntrack_groups, &home->index);
	home->pool = bpf_map_lookup_elem(&conntrack, &home->index);
	home->set[0] = (mixed >> 46) % SLUICE_CT_GROUP_SETS;
	home->set[1] = (home->set[0] ^ (mixed >> 38 | 1)) % SLUICE_CT_GROUP_SETS;
	home->tag = (SLUICE_CT_TAG | (mixed >> 22 & (SLUICE_CT_TAG - 1))) * CT_EACH;
	return home->group && home->pool;
}

/* Of the tags that are marked in their highest bit, the lowest. */
static __always_inline __u32 ct_lowest(__u64 marked)
{
	return (((marked & -marked) >> 15) * 0x0000000100020003ULL >> 48) % 4;
}

/* The way that has the tag, or a free one (0); CT_NONE. With branches: what follows does not wait then for tags that no
 * cache holds. */
static __always_inline __u32 ct_way_with(const struct sluice_ct_tags *tags, __u64 tag)
{
	const volatile __u64 *word = tags->word;
	__u64 low = word[0] ^ tag, high = word[1] ^ tag;

	/* Marks what is zero, and perhaps something above it. */
	low = (low - CT_EACH) & ~low & CT_EACH << 15;
	high = (high - CT_EACH) & ~high & CT_EACH << 15;
	if (low)
		return ct_lowest(low);
	return high ? 4 + ct_lowest(high) : CT_NONE;
}

static __always_inline bool ct_key_equal(const struct sluice_ct_key *a, const struct sluice_ct_key *b)
{
	const word64 *one = (const word64 *)a, *other = (const word64 *)b;

	_Static_assert(sizeof(*a) == 5 * sizeof(*one), "all of the key");
	return !((one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3]) |
		 (one[4] ^ other[4]));
}

/* None: there is no such place. */
static __always_inline struct sluice_ct_pair *ct_pair(struct sluice_ct_pool *pool, __u32 at)
{
	/* So that the compiler compares what it uses: else the verifier does not see that it is within bounds. */
	asm volatile("" : "+r"(at));
	return at < SLUICE_CT_POOL ? &pool->pair[at] : NULL;
}

/* The key's way of the set, and its place in the pool. */
struct ct_spot {
	struct sluice_ct_tags *tags;
	struct sluice_ct_pair *pair;	/* none: not the key's */
	__u32 way;	/* that has the key's tag */
	__u32 at;	/* of the pool */
};

static __always_inline void ct_spot_in_set(struct ct_spot *spot, const struct ct_home *home, int which,
					   const struct sluice_ct_key *key)
{
	__u32 set = home->set[which];

	/* Bounded once more, where the verifier sees it. */
	asm volatile("" : "+r"(set));
	spot->tags = &home->group->tags[set % SLUICE_CT_GROUP_SETS];
	spot->pair = NULL;
	spot->way = ct_way_with(spot->tags, home->tag);
	if (spot->way == CT_NONE)
		return;
	spot->at = spot->tags->entry[spot->way % SLUICE_CT_WAYS];
	spot->pair = ct_pair(home->pool, spot->at);
	if (spot->pair && !ct_key_equal(&spot->pair->key, key))
		spot->pair = NULL;
}

static __always_inline void ct_spot_find(struct ct_spot *spot, const struct ct_home *home,
					 const struct sluice_ct_key *key)
{
	ct_spot_in_set(spot, home, 0, key);
	if (!spot->pair)
		ct_spot_in_set(spot, home, 1, key);
}

/* `hash`: sluice_ct_hash() of the key. `place`: see struct sluice_packet. */
static __always_inline struct sluice_ct_entry *ct_lookup(const struct sluice_config *cfg,
							 const struct sluice_ct_key *key, __u64 hash, __u32 *place)
{
	struct ct_home home;
	struct ct_spot spot;

	if (!ct_home_make(&home, cfg, hash))
		return NULL;
	ct_spot_find(&spot, &home, key);
	if (!spot.pair)
		return NULL;
	*place = home.index << SLUICE_CT_PLACE_BITS | spot.at;
	return &spot.pair->entry;
}

/* ---- under the group's lock ------------------------------------------------------------- */
/* How many ways are taken; as many as there are, if the set cannot have another key of this tag. */
static __always_inline __u32 ct_taken(const struct ct_spot *spot)
{
	__u64 taken = (spot->tags->word[0] >> 15 & CT_EACH) + (spot->tags->word[1] >> 15 & CT_EACH);

	return spot->way == CT_NONE ? taken * CT_EACH >> 48 : SLUICE_CT_WAYS;
}

/* A place of the pool; SLUICE_CT_POOL: there is none. */
static __always_inline __u32 ct_place_take(const struct ct_home *home)
{
	struct sluice_ct_group *group = home->group;
	__u32 at = group->free - 1;
	const struct sluice_ct_pair *pair = ct_pair(home->pool, at);

	if (pair)
		group->free = pair->entry.owner;
	else
		at = group->fresh < SLUICE_CT_POOL ? group->fresh++ : SLUICE_CT_POOL;
	return at;
}

/* False: the pool is empty. */
static __always_inline bool ct_fill(const struct ct_home *home, struct sluice_ct_tags *tags,
				    const struct sluice_ct_key *key, const struct sluice_ct_entry *entry)
{
	__u32 way = ct_way_with(tags, 0) % SLUICE_CT_WAYS, at = ct_place_take(home);
	struct sluice_ct_pair *pair = ct_pair(home->pool, at);

	if (!pair)
		return false;
	pair->key = *key;
	pair->entry = *entry;
	tags->entry[way] = at;
	/* Last. Where the CPU reorders stores (arm64) a reader may see the tag before the key: to it the entry is not
	 * there yet. */
	asm volatile("" ::: "memory");
	*(volatile __u64 *)&tags->word[way / 4] |= (home->tag & 0xffff) << way % 4 * 16;
	return true;
}

static __always_inline void ct_vacate(struct sluice_ct_group *group, struct sluice_ct_tags *tags, __u32 way,
				      struct sluice_ct_pair *pair, __u32 at)
{
	*(volatile __u64 *)&tags->word[way / 4 % 2] &= ~(0xffffULL << way % 4 * 16);
	pair->entry.owner = group->free;
	group->free = at + 1;
}

/* What an entry of the same key must be to give way to the new one. */
enum ct_yield {
	CT_NOTHING,
	CT_ALIKE,	/* the new one's like, translated the same way: the connection begins anew */
	CT_OVER,	/* or beyond its lifetime */
	CT_ANYTHING,
};

static __always_inline bool ct_yields(enum ct_yield yield, const struct sluice_ct_key *key,
				      const struct sluice_ct_entry *old, const struct sluice_ct_entry *entry)
{
	__u32 progress = sluice_ct_progress(old->seal, old->progress);
	__s64 idle_ns = entry->last_seen_ns - old->last_seen_ns;

	if (yield == CT_NOTHING || yield == CT_ANYTHING)
		return yield == CT_ANYTHING;
	if (old->seal == entry->seal || yield == CT_ALIKE)
		return old->seal == entry->seal;
	return idle_ns > (__s64)sluice_ct_lifetime_ns(key->proto, progress);
}

/* 0: inserted. 1: in place of another one, which had *owner. -EEXIST: the other one did not yield. -E2BIG: there is no
 * room for the key. */
static __always_inline long ct_insert(const struct sluice_config *cfg, const struct sluice_ct_key *key, __u64 hash,
				      const struct sluice_ct_entry *entry, enum ct_yield yield, __u32 *owner)
{
	struct ct_spot first, second;
	struct sluice_ct_pair *pair;
	struct ct_home home;
	long result = -E2BIG;

	if (!ct_home_make(&home, cfg, hash))
		return -E2BIG;
	bpf_spin_lock(&home.group->lock);
	ct_spot_in_set(&first, &home, 0, key);
	ct_spot_in_set(&second, &home, 1, key);
	pair = first.pair ? first.pair : second.pair;
	if (pair && ct_yields(yield, key, &pair->entry, entry)) {
		*owner = pair->entry.owner;
		pair->entry = *entry;
		result = 1;
	} else if (pair) {
		result = -EEXIST;
	} else {
		__u32 in_first = ct_taken(&first), in_second = ct_taken(&second);

		/* Rather the first, where a lookup finds it sooner. */
		if (in_first < SLUICE_CT_WAYS && (in_first < SLUICE_CT_WAYS / 2 || in_first <= in_second)) {
			if (ct_fill(&home, first.tags, key, entry))
				result = 0;
		} else if (in_second < SLUICE_CT_WAYS) {
			if (ct_fill(&home, second.tags, key, entry))
				result = 0;
		}
	}
	bpf_spin_unlock(&home.group->lock);
	return result;
}

/* Of a set, what was removed, and the owners of its entries, 16 bits each, the last way's lowest. Not an array: where a pointer
 * into the stack moves, verifiers since Linux 7 take the whole stack for read later and tell all its mixtures apart. */
struct ct_removed {
	__u32 ways;	/* bits */
	__u64 owners_low;
	__u64 owners_high;
};
SLUICE_ASSERT(SLUICE_CT_OWNERS <= 1 << 16 && SLUICE_CT_WAYS == 8, "struct ct_removed");

/* Is the entry over, where room is short? Without a branch, so that the verifier does not walk every mixture of ways. */
static __always_inline __u32 ct_is_over(const struct sluice_ct_pair *pair, __u64 now_ns)
{
	__u32 progress = sluice_ct_progress(pair->entry.seal, pair->entry.progress);
	__s64 left_ns = pair->entry.last_seen_ns + sluice_ct_short_lifetime_ns(pair->key.proto, progress) - now_ns;

	return (__u64)left_ns >> 63;
}

/* Removes what is over from the key's first set, or from the set of the group whose turn it is. */
static __always_inline void ct_clear(const struct ct_home *home, bool in_turn, __u64 now_ns, struct ct_removed *removed)
{
	__u32 set = home->set[0], ways = 0;
	struct sluice_ct_tags *tags;

	bpf_spin_lock(&home->group->lock);
	if (in_turn)
		set = home->group->hand++;
	asm volatile("" : "+r"(set));
	tags = &home->group->tags[set % SLUICE_CT_GROUP_SETS];
	for (__u32 way = 0; way < SLUICE_CT_WAYS; way++) {
		__u32 at = tags->entry[way], over;
		struct sluice_ct_pair *pair = ct_pair(home->pool, at);

		removed->owners_high = removed->owners_high << 16 | removed->owners_low >> 48;
		removed->owners_low <<= 16;
		if (!pair)
			continue;
		removed->owners_low |= (__u16)pair->entry.owner;
		over = ct_is_over(pair, now_ns) & tags->word[way / 4] >> (way % 4 * 16 + 15);
		ways |= over << way;
		asm volatile("" : "+r"(ways));
		if (over)
			ct_vacate(home->group, tags, way, pair, at);
	}
	bpf_spin_unlock(&home->group->lock);
	removed->ways = ways;
}

/* False: there is none. `seal`: the entry's that is meant; 0: of whichever. `owner`: the entry's. */
static __always_inline bool ct_erase(const struct sluice_config *cfg, const struct sluice_ct_key *key, __u64 hash,
				     __u64 seal, __u32 *owner)
{
	struct ct_home home;
	struct ct_spot spot;

	if (!ct_home_make(&home, cfg, hash))
		return false;
	bpf_spin_lock(&home.group->lock);
	ct_spot_find(&spot, &home, key);
	if (spot.pair && seal && spot.pair->entry.seal != seal)
		spot.pair = NULL;
	if (spot.pair) {
		*owner = spot.pair->entry.owner;
		ct_vacate(home.group, spot.tags, spot.way, spot.pair, spot.at);
	}
	bpf_spin_unlock(&home.group->lock);
	return spot.pair;
}

#endif
