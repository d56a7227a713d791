// SPDX-License-Identifier: GPL-2.0-only
/*
 * Answers a packet to a Service without backends as its sender's own stack would if nobody listened: ICMP port
 * unreachable (RFC 792, RFC 1812 5.2.7.1), which ends a TCP connection attempt (RFC 1122, 4.2.3.9).
 */
#include <linux/if_packet.h>

#include "lib/checksum.h"
#include "lib/parse.h"

char LICENSE[] SEC("license") = "GPL";

#define ANSWER_TTL 64
#define PORT_UNREACHABLE 3
/* Quoted: the IP header and as much behind it as has a checksum in it, which the kernel may still have to fill in. */
#define QUOTED_MOST (sizeof(struct iphdr) + sizeof(struct tcphdr))

struct unreachable {
	struct iphdr ip;
	struct icmp_header icmp;
} __attribute__((packed));

/* The answer's headers before what it quotes. */
static __always_inline bool make_answer(struct __sk_buff *skb, const struct sluice_packet *pkt, __u32 quoted)
{
	__u8 ADDR_ON_STACK quote[QUOTED_MOST] = {};
	struct unreachable ADDR_ON_STACK head = {
		.ip = { .version = 4, .ihl = 5, .ttl = ANSWER_TTL, .protocol = IPPROTO_ICMP,
			.tot_len = bpf_htons(sizeof(head) + quoted), .saddr = addr_v4(&pkt->dst),
			.daddr = addr_v4(&pkt->src) },
		.icmp = { .type = ICMP_DEST_UNREACH, .code = PORT_UNREACHABLE },
	};
	const __u32 at = pkt->l3_offset;

	if (quoted == QUOTED_MOST ? bpf_skb_load_bytes(skb, at, quote, QUOTED_MOST) :
				    bpf_skb_load_bytes(skb, at, quote, sizeof(struct iphdr) + 8))
		return false;
	/* Zeros behind what is quoted change no sum. */
	head.icmp.checksum = ~fold(bpf_csum_diff(NULL, 0, (__be32 *)quote, sizeof(quote),
							 bpf_csum_diff(NULL, 0, (__be32 *)&head.icmp,
								       sizeof(head.icmp), 0)));
	head.ip.check = ~fold(bpf_csum_diff(NULL, 0, (__be32 *)&head.ip, sizeof(head.ip), 0));
	return !bpf_skb_adjust_room(skb, sizeof(head), BPF_ADJ_ROOM_MAC, 0) &&
	       !bpf_skb_store_bytes(skb, at, &head, sizeof(head), 0);
}

static __always_inline bool turn_round(struct __sk_buff *skb)
{
	struct ethhdr *eth = frame_start(skb);
	__u8 ADDR_ON_STACK mac[6];

	if ((void *)(eth + 1) > frame_end(skb))
		return false;
	mac_copy(mac, eth->h_dest);
	mac_copy(eth->h_dest, eth->h_source);
	mac_copy(eth->h_source, mac);
	return true;
}

static __always_inline bool answer(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	__u32 quoted = pkt->proto == IPPROTO_TCP ? QUOTED_MOST : sizeof(struct iphdr) + 8;

	/* No options, so that the sizes are known; and of a datagram in fragments only the first is answered. */
	if (pkt->l4_offset - pkt->l3_offset != sizeof(struct iphdr) || pkt->flags & SLUICE_PKT_FRAGMENT_LATER ||
	    (pkt->proto != IPPROTO_TCP && pkt->proto != IPPROTO_UDP))
		return false;
	return !bpf_skb_change_tail(skb, pkt->l3_offset + quoted, 0) && make_answer(skb, pkt, quoted) &&
	       turn_round(skb);
}

SEC("tc")
int refuse(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	const struct sluice_config *cfg = config_get();
	struct sluice_stats *st;

	if (!pkt || !cfg)
		return TC_ACT_SHOT;
	st = stats_of(pkt);
	st->module_packets[SLUICE_MODULE_REFUSE]++;
	/* To a pod as the answer to ARP goes; to others by the way that the packet came. */
	if (pkt->hook == SLUICE_HOOK_OVERLAY || pkt->flags & SLUICE_PKT_TCP_RST || !answer(skb, pkt))
		return drop(skb, pkt, SLUICE_MODULE_REFUSE, SLUICE_DROP_SERVICE_NO_BACKEND);
	if (pkt->hook == SLUICE_HOOK_UPLINK) {
		st->out_uplink++;
		return bpf_redirect(skb->ifindex, 0);
	}
	if (pkt->hook == SLUICE_HOOK_HOST) {
		st->to_stack++;
		return bpf_redirect(cfg->host_ifindex, BPF_F_INGRESS);
	}
	st->answered++;
	bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(skb->ifindex, 0);
}
