// SPDX-License-Identifier: GPL-2.0-only
/* Packets that BPF_PROG_TEST_RUN cannot make: with the metadata that VXLAN leaves on what it received, with
 * a VLAN tag, and shorter than the header that their EtherType promises. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char LICENSE[] SEC("license") = "GPL";

struct arrival {
	__u32 source;	/* outer IPv4 address, host order */
	__u32 vni;
	__u32 length;	/* to cut to */
	__u32 hook;	/* enum sluice_hook, where the cut packet goes */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrival);
} arrival SEC(".maps");

/* The programs of entry, by hook. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

static __always_inline int set_metadata(struct __sk_buff *skb, const struct arrival *from)
{
	struct bpf_tunnel_key key = {};

	/* Of metadata to be sent the local address is the source, which a receiver calls remote. */
	key.tunnel_id = from->vni;
	key.local_ipv4 = from->source;
	key.tunnel_ttl = 64;
	return bpf_skb_set_tunnel_key(skb, &key, sizeof(key), 0);
}

SEC("tc")
int tunnelled(struct __sk_buff *skb)
{
	__u32 zero = 0;
	const struct arrival *from = bpf_map_lookup_elem(&arrival, &zero);

	if (!from || set_metadata(skb, from))
		return TC_ACT_SHOT;
	bpf_tail_call(skb, &target, SLUICE_HOOK_OVERLAY);
	return TC_ACT_SHOT;
}

SEC("tc")
int shortened(struct __sk_buff *skb)
{
	__u32 zero = 0;
	const struct arrival *from = bpf_map_lookup_elem(&arrival, &zero);

	if (!from || bpf_skb_change_tail(skb, from->length, 0) ||
	    (from->hook == SLUICE_HOOK_OVERLAY && set_metadata(skb, from)))
		return TC_ACT_SHOT;
	bpf_tail_call(skb, &target, from->hook);
	return TC_ACT_SHOT;
}

SEC("tc")
int tagged(struct __sk_buff *skb)
{
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 5))
		return TC_ACT_SHOT;
	bpf_tail_call(skb, &target, SLUICE_HOOK_POD);
	return TC_ACT_SHOT;
}
