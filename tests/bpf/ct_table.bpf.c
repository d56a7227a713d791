// SPDX-License-Identifier: GPL-2.0-only
/* The table of connections by itself: one step from the packet data (struct step, behind an Ethernet header), whose
 * outcome is returned. */
#include <linux/if_ether.h>

#include "lib/budget.h"

char LICENSE[] SEC("license") = "GPL";

enum act { ACT_FIND, ACT_ADD, ACT_REPLACE, ACT_REMOVE, ACT_RECLAIM };

struct step {
	struct sluice_ct_key key;
	__u64 mark;	/* of an entry that is added: its `stamp`, and the second that it was seen in; of RECLAIM the second now */
	__u32 act;
	__u32 owner;
};

/* FIND: the entry's mark, or -ENOENT, or -EIO if it is torn; ADD and REPLACE: 0 or the error; REMOVE: 1 or 0; RECLAIM: 0. */
SEC("tc")
int ct_step(struct __sk_buff *skb)
{
	const struct sluice_config *cfg = config_get();
	struct sluice_packet *pkt = packet_get();
	struct sluice_ct_entry entry = {};
	struct ct_snapshot found;
	struct step step;
	__u64 hash;

	if (!cfg || !pkt || bpf_skb_load_bytes(skb, ETH_HLEN, &step, sizeof(step)))
		return -EINVAL;
	hash = sluice_ct_hash(&step.key, cfg->conntrack_secret);
	if (step.act == ACT_FIND) {
		enum ct_found how = ct_find(cfg, &step.key, &found);

		return how == CT_FOUND ? (int)found.entry->stamp : how == CT_ABSENT ? -ENOENT : -EIO;
	}
	if (step.act == ACT_REMOVE)
		return ct_remove(cfg, &step.key, hash, 0);
	if (step.act == ACT_RECLAIM) {
		pkt->ct_key = step.key;
		pkt->src_endpoint = step.owner;
		pkt->now_ns = step.mark * SLUICE_NS_PER_S;
		ct_reclaim(pkt, cfg);
		return 0;
	}
	entry.stamp = step.mark;
	entry.owner = step.owner;
	entry.last_seen_ns = step.mark * SLUICE_NS_PER_S;
	entry.seal = sluice_ct_seal(hash, &entry.nat);
	entry.progress = sluice_ct_progress_word(entry.seal, 0);
	return ct_add(cfg, &step.key, hash, &entry, step.act == ACT_ADD ? CT_NOTHING : CT_ANYTHING);
}
