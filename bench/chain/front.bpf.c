// SPDX-License-Identifier: GPL-2.0-only
/*
 * What stands before the modules when BPF_PROG_TEST_RUN repeats a packet: makes each repetition another
 * connection, or another question, and goes on. Without what comes behind, the same programs are the baselines.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char LICENSE[] SEC("license") = "GPL";

struct turn {
	__u32 count;
	__u32 sources;	/* to ask from in turns */
	__u32 services;	/* to connect to in turns */
	__u8 ethernet[12];	/* destination and source of a packet to a Service */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct turn);
} turn SEC(".maps");

enum front_slot { FRONT_ENTRY = 0, FRONT_PROBE = 1, FRONT_NOTHING = 2, FRONT_SLOTS };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, FRONT_SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} front SEC(".maps");

/* Another source port in each repetition. */
static __always_inline void renumber(struct __sk_buff *skb)
{
	struct udphdr *ports = (void *)(long)skb->data + ETH_HLEN + sizeof(struct iphdr);
	__u32 zero = 0;
	struct turn *now = bpf_map_lookup_elem(&turn, &zero);

	if (now && (void *)(ports + 1) <= (void *)(long)skb->data_end)
		ports->source = bpf_htons(now->count++);
}

/* A repetition gets the packet as the one before has left it: for a Service again, the first one, 10.96.0.1, or
 * `another`. The checksums are nobody's business here. */
static __always_inline void readdress(struct __sk_buff *skb, bool another)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *ports = (void *)(ip + 1);
	__u32 zero = 0;
	struct turn *now = bpf_map_lookup_elem(&turn, &zero);

	if (!now || !now->services || (void *)(ports + 1) > (void *)(long)skb->data_end)
		return;
	__builtin_memcpy(eth, now->ethernet, sizeof(now->ethernet));
	ip->daddr = bpf_htonl(0x0a600001 + (another ? now->count * 7919 % now->services : 0));
	ip->ttl = 64;
	ports->dest = bpf_htons(80);
}

/* Another source address, from 10.2.0.0 on. */
static __always_inline void ask_for_another(struct __sk_buff *skb)
{
	struct sluice_probe *asked = (void *)(long)skb->data + ETH_HLEN;
	__u32 zero = 0;
	struct turn *now = bpf_map_lookup_elem(&turn, &zero);

	if (!now || (void *)(asked + 1) > (void *)(long)skb->data_end)
		return;
	now->count = now->count + 1 < now->sources ? now->count + 1 : 0;
	asked->src.word_be[3] = bpf_htonl(0x0a020000 + now->count);
}

SEC("tc")
int nothing(struct __sk_buff *skb __attribute__((unused)))
{
	return TC_ACT_OK;
}

SEC("tc")
int new_connections(struct __sk_buff *skb)
{
	renumber(skb);
	bpf_tail_call_static(skb, &front, FRONT_ENTRY);
	return TC_ACT_OK;
}

SEC("tc")
int new_connections_only(struct __sk_buff *skb)
{
	renumber(skb);
	bpf_tail_call_static(skb, &front, FRONT_NOTHING);
	return TC_ACT_OK;
}

SEC("tc")
int service_packets(struct __sk_buff *skb)
{
	readdress(skb, false);
	bpf_tail_call_static(skb, &front, FRONT_ENTRY);
	return TC_ACT_OK;
}

SEC("tc")
int new_service_connections(struct __sk_buff *skb)
{
	renumber(skb);
	readdress(skb, false);
	bpf_tail_call_static(skb, &front, FRONT_ENTRY);
	return TC_ACT_OK;
}

SEC("tc")
int other_service_connections(struct __sk_buff *skb)
{
	renumber(skb);
	readdress(skb, true);
	bpf_tail_call_static(skb, &front, FRONT_ENTRY);
	return TC_ACT_OK;
}

SEC("tc")
int other_peers(struct __sk_buff *skb)
{
	ask_for_another(skb);
	bpf_tail_call_static(skb, &front, FRONT_PROBE);
	return TC_ACT_OK;
}
