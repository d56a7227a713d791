// SPDX-License-Identifier: GPL-2.0-only
/* Packets that BPF_PROG_TEST_RUN cannot make: with the metadata that VXLAN leaves on what it received, with
 * a VLAN tag, and shorter than the header that their EtherType promises. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct arrival {
	__u32 source;	/* outer IPv4 address, host order */
	__u32 vni;
	__u32 length;	/* to cut to */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrival);
} arrival SEC(".maps");

/* 0: entry_overlay, for `tunnelled`; 1: entry_pod, for the others */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

SEC("tc")
int tunnelled(struct __sk_buff *skb)
{
	__u32 zero = 0;
	const struct arrival *from = bpf_map_lookup_elem(&arrival, &zero);
	struct bpf_tunnel_key key = {};

	if (!from)
		return TC_ACT_SHOT;
	/* Of metadata to be sent the local address is the source, which a receiver calls remote. */
	key.tunnel_id = from->vni;
	key.local_ipv4 = from->source;
	key.tunnel_ttl = 64;
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), 0))
		return TC_ACT_SHOT;
	bpf_tail_call(skb, &target, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int shortened(struct __sk_buff *skb)
{
	__u32 zero = 0;
	const struct arrival *from = bpf_map_lookup_elem(&arrival, &zero);

	if (!from || bpf_skb_change_tail(skb, from->length, 0))
		return TC_ACT_SHOT;
	bpf_tail_call(skb, &target, 1);
	return TC_ACT_SHOT;
}

SEC("tc")
int tagged(struct __sk_buff *skb)
{
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 5))
		return TC_ACT_SHOT;
	bpf_tail_call(skb, &target, 1);
	return TC_ACT_SHOT;
}
