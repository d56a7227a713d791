// SPDX-License-Identifier: GPL-2.0-only
/* Holds a connection's entry while its way goes to another connection, as when another CPU removes the entry and
 * inserts the next; then does to it what a module would have been about to do. */
#include "lib/budget.h"

char LICENSE[] SEC("license") = "GPL";

struct handover {
	struct sluice_ct_key held;
	struct sluice_ct_key heir;	/* of the connection that gets the way */
	struct sluice_ct_entry value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct handover);
} handover SEC(".maps");

/* False if the way did not go to the heir. */
static __always_inline bool hold(struct ct_snapshot *ct, const struct sluice_config *cfg, const struct handover *what)
{
	__u64 held = sluice_ct_hash(&what->held, cfg->conntrack_secret);
	__u64 heir = sluice_ct_hash(&what->heir, cfg->conntrack_secret);
	__u32 place;

	return ct_find(cfg, &what->held, ct) == CT_FOUND && ct_remove(cfg, &what->held, held, ct->seal) &&
	       !ct_add(cfg, &what->heir, heir, &what->value, CT_NOTHING) &&
	       ct_lookup(cfg, &what->heir, heir, &place) && place == ct->place;
}

/* The packet that the module was at work on: of the held connection. */
static __always_inline struct sluice_packet *packet_of(const struct ct_snapshot *ct)
{
	struct sluice_packet *pkt = packet_get();

	if (!pkt)
		return NULL;
	pkt->flags = SLUICE_PKT_TCP_RST;
	pkt->now_ns = bpf_ktime_get_ns();
	pkt->ct_seal = ct->seal;
	pkt->ct_place = ct->place;
	pkt->stamp = live_stamp();
	return pkt;
}

enum act { ACT_RESTAMP, ACT_TOUCH, ACT_READ };

/* 1: done. For a read, 2: refused. 0: the way did not change hands. */
static __always_inline int late(enum act act)
{
	__u32 zero = 0;
	const struct handover *what = bpf_map_lookup_elem(&handover, &zero);
	const struct sluice_config *cfg = config_get();
	struct sluice_packet *pkt;
	struct ct_snapshot ct;

	if (!what || !cfg || !hold(&ct, cfg, what))
		return 0;
	pkt = packet_of(&ct);
	if (!pkt)
		return 0;
	if (act == ACT_RESTAMP)
		ct_restamp(&ct, pkt);
	else if (act == ACT_TOUCH)
		ct_touch(&ct, pkt);
	else
		return ct_copy(&ct, sluice_ct_hash(&what->held, cfg->conntrack_secret)) ? 1 : 2;
	return 1;
}

SEC("tc")
int late_restamp(struct __sk_buff *skb __attribute__((unused)))
{
	return late(ACT_RESTAMP);
}

SEC("tc")
int late_touch(struct __sk_buff *skb __attribute__((unused)))
{
	return late(ACT_TOUCH);
}

SEC("tc")
int late_read(struct __sk_buff *skb __attribute__((unused)))
{
	return late(ACT_READ);
}
