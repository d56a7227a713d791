// SPDX-License-Identifier: GPL-2.0-only
/*
 * Removes from conntrack what user space has found to be over (struct sluice_sweep): only a program can hold a group's
 * lock. Run by BPF_PROG_TEST_RUN only.
 */
#include <linux/if_ether.h>

#include "lib/budget.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline bool remove(const struct sluice_sweep *wanted)
{
	__u32 index = wanted->set / SLUICE_CT_GROUP_SETS, owner = 0, way = wanted->way % SLUICE_CT_WAYS, at;
	struct sluice_ct_group *group = bpf_map_lookup_elem(&conntrack_groups, &index);
	struct sluice_ct_pool *pool = bpf_map_lookup_elem(&conntrack, &index);
	struct sluice_ct_tags *tags;
	struct sluice_ct_pair *pair;
	bool same = false;

	if (!group || !pool)
		return false;
	tags = &group->tags[wanted->set % SLUICE_CT_GROUP_SETS];
	bpf_spin_lock(&group->lock);
	at = tags->entry[way];
	pair = ct_pair(pool, at);
	if (pair && tags->word[way / 4] >> way % 4 * 16 & SLUICE_CT_TAG) {
		same = pair->entry.seal == wanted->seal &&
		       (!wanted->last_seen_ns || pair->entry.last_seen_ns == wanted->last_seen_ns);
		if (same) {
			owner = pair->entry.owner;
			ct_vacate(group, tags, way, pair, at);
		}
	}
	bpf_spin_unlock(&group->lock);
	if (same)
		ct_use_change(owner, -1);
	return same;
}

SEC("tc")
int sweep(struct __sk_buff *skb)
{
	struct sluice_sweep wanted;

	for (__u32 i = 0; i < SLUICE_SWEEP_MOST; i++) {
		__u32 at = ETH_HLEN + i * sizeof(wanted);

		if (bpf_skb_load_bytes(skb, at, &wanted, sizeof(wanted)))
			break;
		wanted.removed = remove(&wanted);
		bpf_skb_store_bytes(skb, at, &wanted, sizeof(wanted), 0);
	}
	return 0;
}
