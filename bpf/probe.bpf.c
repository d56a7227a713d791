// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asks a firewall generation about a connection described in the packet data (struct sluice_probe), without
 * any effect on counters, conntrack or events. Run by BPF_PROG_TEST_RUN only.
 *
 * Before Linux 6.11 a test run leaves bottom halves on, so a real packet on this CPU may use the packet
 * context in between: the answer can be wrong then, and user space asks again before it believes a mismatch.
 */
#include <linux/if_ether.h>

#include "lib/packet.h"

char LICENSE[] SEC("license") = "GPL";

SEC("tc")
int probe(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	struct sluice_probe asked;

	if (!pkt || bpf_skb_load_bytes(skb, ETH_HLEN, &asked, sizeof(asked)))
		return 0;
	__builtin_memset(pkt, 0, sizeof(*pkt));
	pkt->src = asked.src;
	pkt->dst = asked.dst;
	pkt->sport_be = asked.sport_be;
	pkt->dport_be = asked.dport_be;
	pkt->proto = asked.proto;
	pkt->hook = SLUICE_HOOK_PROBE;
	pkt->src_endpoint = asked.src_endpoint;
	pkt->dst_endpoint = asked.dst_endpoint;
	if (asked.own_node)
		pkt->flags |= SLUICE_PKT_OWN_NODE;
	if (asked.reply)
		pkt->flags |= SLUICE_PKT_REPLY;
	if (asked.module == SLUICE_MODULE_FIREWALL || asked.module == SLUICE_MODULE_CANDIDATE)
		bpf_tail_call(skb, &modules, asked.module);
	return 0;
}
