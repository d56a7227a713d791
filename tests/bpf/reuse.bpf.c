// SPDX-License-Identifier: GPL-2.0-only
/* Holds a connection's entry while its element goes to another connection, as when another CPU deletes or
 * replaces the entry and inserts the next; then does to it what a module would have been about to do. */
#include "lib/conntrack.h"

char LICENSE[] SEC("license") = "GPL";

struct handover {
	struct sluice_ct_key held;
	struct sluice_ct_key heir;	/* of the connection that gets the element */
	struct sluice_ct_entry value;
	__u32 replaced;			/* else deleted */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct handover);
} handover SEC(".maps");

/* False if the kernel did not give the element to the heir. */
static __always_inline bool hold(struct ct_snapshot *ct, const struct handover *what)
{
	struct sluice_ct_entry same;

	if (ct_find(&what->held, ct) != CT_FOUND)
		return false;
	if (what->replaced) {
		/* The element that an update replaces is what the CPU's next update puts in place. */
		same = *ct->entry;
		if (bpf_map_update_elem(&conntrack, &what->held, &same, BPF_EXIST) ||
		    bpf_map_update_elem(&conntrack, &what->heir, &what->value, BPF_EXIST))
			return false;
	} else if (bpf_map_delete_elem(&conntrack, &what->held) ||
		   bpf_map_update_elem(&conntrack, &what->heir, &what->value, BPF_NOEXIST)) {
		return false;
	}
	return bpf_map_lookup_elem(&conntrack, &what->heir) == ct->entry;
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
	pkt->stamp = live_stamp();
	return pkt;
}

enum act { ACT_RESTAMP, ACT_TOUCH, ACT_READ };

/* 1: done. For a read, 2: refused. 0: the element did not change hands. */
static __always_inline int late(enum act act)
{
	__u32 zero = 0;
	const struct handover *what = bpf_map_lookup_elem(&handover, &zero);
	struct sluice_packet *pkt;
	struct ct_snapshot ct;

	if (!what || !hold(&ct, what))
		return 0;
	pkt = packet_of(&ct);
	if (!pkt)
		return 0;
	if (act == ACT_RESTAMP)
		ct_restamp(ct.entry, pkt);
	else if (act == ACT_TOUCH)
		ct_touch(&ct, pkt);
	else
		return ct_copy(&ct, sluice_ct_hash(&what->held)) ? 1 : 2;
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
