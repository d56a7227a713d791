/* SPDX-License-Identifier: GPL-2.0-only */
/* The least that a program between two pods of a node can do: hand each packet to the other one's interface. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, __u32);	/* the interface that a packet came in by */
	__type(value, __u32);	/* whose peer gets it */
} others SEC(".maps");

SEC("tc")
int hand_over(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, *other = bpf_map_lookup_elem(&others, &ifindex);

	return other ? bpf_redirect_peer(*other, 0) : TC_ACT_SHOT;
}
