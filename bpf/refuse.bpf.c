// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tells the sender of a packet that goes no further why, by an ICMP error (RFC 792; RFC 1812, 5.2.7): nobody serves the
 * Service, the time to live is over, the packet is too large for its way. The error quotes what the sender sent. A packet
 * of a connection that conntrack has is brought back to what policy sees, and `nat` makes the error right for the sender,
 * as it does with the errors of others. Any other packet is as it was sent, and so is the error sent back.
 */
#include <linux/if_packet.h>

#include "lib/rewrite.h"

char LICENSE[] SEC("license") = "GPL";

#define ANSWER_TTL 64
#define PORT_UNREACHABLE 3
#define FRAGMENTATION_NEEDED 4
/* Quoted: the IP header and as much behind it as has a checksum in it, which the kernel may still have to fill in. */
#define QUOTED_LEAST (sizeof(struct iphdr) + 8)
#define QUOTED_MOST (60 + sizeof(struct tcphdr))

struct icmp_error {
	struct iphdr ip;
	struct icmp_header icmp;	/* sequence_be: the next hop's MTU (RFC 1191, 4) */
} __attribute__((packed));

/* ---- who is told -------------------------------------------------------------------------- */
/* For each sender a token a millisecond, as Linux has it for a host (icmp_msgs_per_sec): a pod that sends nothing but what
 * is answered does not take away the others' answers. */
static __always_inline bool token_take(const struct sluice_packet *pkt)
{
	const __u32 sender = pkt->src_endpoint;
	struct sluice_answers *answers = bpf_map_lookup_elem(&answers_left, &sender);
	__s64 passed;
	__u64 gained;

	if (!answers)
		return false;
	/* Other CPUs' clocks may be a tick ahead. */
	passed = pkt->now_ns - answers->counted_ns;
	gained = passed > 0 ? (__u64)passed / (SLUICE_NS_PER_S / SLUICE_ANSWERS_PER_S) : 0;
	if (gained) {
		gained += answers->left;
		answers->left = gained < SLUICE_ANSWERS_AT_ONCE ? gained : SLUICE_ANSWERS_AT_ONCE;
		answers->counted_ns = pkt->now_ns;
	}
	if (!answers->left)
		return false;
	answers->left--;
	return true;
}

/* RFC 1812, 4.3.2.7: no error about an error, about a fragment but the first, or to an address that is no host's. */
static __always_inline bool may_answer(const struct sluice_packet *pkt)
{
	return !(pkt->flags & (SLUICE_PKT_ICMP_ERROR | SLUICE_PKT_FRAGMENT_LATER | SLUICE_PKT_TCP_RST)) &&
	       !v4_stays_inside(addr_v4(&pkt->src)) && !v4_is_multicast(addr_v4(&pkt->src)) && token_take(pkt);
}

/* ---- what is quoted ------------------------------------------------------------------------- */
/* nat_commit has put this in the source's place. */
static __always_inline bool source_restore(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	const struct translation source = { true, addr_v4(&pkt->nat_addr), addr_v4(&pkt->src), pkt->nat_port_be,
					    pkt->sport_be };
	const struct translation port = { false, addr_v4(&pkt->dst), addr_v4(&pkt->dst), pkt->client_port_be,
					  pkt->dport_be };

	if (!(pkt->flags & (SLUICE_PKT_MASQUERADE | SLUICE_PKT_UNSERVICE)))
		return true;
	return rewrite(skb, pkt, &source) && (!(pkt->flags & SLUICE_PKT_UNSERVICE) ||
					      pkt->client_port_be == pkt->dport_be || rewrite(skb, pkt, &port));
}

/* nat_new has put the backend in the Service's place. */
static __always_inline bool service_restore(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	const struct translation tr = { false, addr_v4(&pkt->dst), addr_v4(&pkt->front_addr), pkt->dport_be,
					pkt->front_port_be };

	if (!(pkt->flags & SLUICE_PKT_SERVICE))
		return true;
	if (!rewrite(skb, pkt, &tr))
		return false;
	addr_copy(&pkt->dst, &pkt->front_addr);
	return true;
}

/* ---- the error ------------------------------------------------------------------------------ */
static __always_inline const struct sluice_addr *own_address(const struct sluice_packet *pkt,
							     const struct sluice_config *cfg)
{
	return local_get(&pkt->src) || addr_is_none(&cfg->node_ipv4) ? &cfg->gateway_ipv4 : &cfg->node_ipv4;
}

/* Its headers before what it quotes. */
static __always_inline bool error_make(struct __sk_buff *skb, const struct sluice_packet *pkt,
				       const struct sluice_addr *source)
{
	__u32 quoted = pkt->l4_offset - ETH_HLEN + (pkt->proto == IPPROTO_TCP ? sizeof(struct tcphdr) : 8);
	__u8 ADDR_ON_STACK quote[QUOTED_MOST] = {};
	struct icmp_error ADDR_ON_STACK head = {
		.ip = { .version = 4, .ihl = 5, .ttl = ANSWER_TTL, .protocol = IPPROTO_ICMP,
			.tot_len = bpf_htons(sizeof(head) + quoted), .saddr = addr_v4(source),
			.daddr = addr_v4(&pkt->src) },
		.icmp = { .type = ICMP_DEST_UNREACH, .code = PORT_UNREACHABLE },
	};

	if (pkt->verdict == SLUICE_DROP_TTL_EXPIRED) {
		head.icmp.type = ICMP_TIME_EXCEEDED;
		head.icmp.code = 0;
	} else if (pkt->verdict == SLUICE_DROP_TOO_BIG) {
		head.icmp.code = FRAGMENTATION_NEEDED;
		head.icmp.sequence_be = bpf_htons(pkt->mtu);
	}
	/* One comparison, which the compiler keeps: older verifiers see the bounds nowhere else, and Linux 7.3's sees no lower
	 * bound of what may be negative. */
	quoted -= QUOTED_LEAST;
	asm volatile("" : "+r"(quoted));
	if (quoted > QUOTED_MOST - QUOTED_LEAST)
		return false;
	quoted += QUOTED_LEAST;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, quote, quoted) || bpf_skb_change_tail(skb, ETH_HLEN + quoted, 0))
		return false;
	/* Zeros behind what is quoted change no sum. */
	head.icmp.checksum = ~fold(bpf_csum_diff(NULL, 0, (__be32 *)quote, sizeof(quote),
						 bpf_csum_diff(NULL, 0, (__be32 *)&head.icmp, sizeof(head.icmp), 0)));
	head.ip.check = ~fold(bpf_csum_diff(NULL, 0, (__be32 *)&head.ip, sizeof(head.ip), 0));
	return !bpf_skb_adjust_room(skb, sizeof(head), BPF_ADJ_ROOM_MAC, 0) &&
	       !bpf_skb_store_bytes(skb, ETH_HLEN, &head, sizeof(head), 0);
}

/* The packet is the error now. */
static __always_inline void error_begin(struct sluice_packet *pkt, const struct sluice_addr *source)
{
	addr_copy(&pkt->dst, &pkt->src);
	addr_copy(&pkt->src, source);
	pkt->sport_be = 0;
	pkt->dport_be = 0;
	pkt->proto = IPPROTO_ICMP;
	pkt->hook = SLUICE_HOOK_ANSWER;
	pkt->state = SLUICE_STATE_NEW;
	pkt->output = SLUICE_OUTPUT_NONE;
	pkt->flags = SLUICE_PKT_ICMP_ERROR;
	pkt->src_endpoint = 0;
	pkt->dst_endpoint = 0;
	pkt->l4_offset = ETH_HLEN + sizeof(struct iphdr);
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

/* ---- the way back ---------------------------------------------------------------------------- */
/* To a pod as the answer to ARP goes; to others by the way that the packet came. */
static __always_inline int send_back(struct __sk_buff *skb, struct sluice_packet *pkt, const struct sluice_config *cfg,
				     const struct sluice_addr *source)
{
	struct sluice_stats *st = stats_of(pkt);

	switch (pkt->hook) {
	case SLUICE_HOOK_UPLINK:
		st->out_uplink++;
		return bpf_redirect(skb->ifindex, 0);
	case SLUICE_HOOK_HOST:
		st->to_stack++;
		return bpf_redirect(cfg->host_ifindex, BPF_F_INGRESS);
	case SLUICE_HOOK_POD:
		st->answered++;
		bpf_skb_change_type(skb, PACKET_HOST);
		return bpf_redirect_peer(skb->ifindex, 0);
	}
	error_begin(pkt, source);
	packet_route(pkt);
	pkt->output = SLUICE_OUTPUT_TUNNEL;
	go_to(skb, SLUICE_MODULE_DELIVER);
	return drop(skb, pkt, SLUICE_MODULE_REFUSE, SLUICE_DROP_TAIL_CALL_MISSING);
}

/* Of a connection that conntrack has. */
static __always_inline bool is_tracked(const struct sluice_packet *pkt)
{
	return pkt->verdict == SLUICE_DROP_TOO_BIG || pkt->state != SLUICE_STATE_NEW;
}

SEC("tc")
int refuse(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	const struct sluice_config *cfg = config_get();
	struct sluice_addr ADDR_ON_STACK source;

	if (!pkt || !cfg)
		return TC_ACT_SHOT;
	count_module(pkt, SLUICE_MODULE_REFUSE);
	if (!may_answer(pkt))
		return drop(skb, pkt, SLUICE_MODULE_REFUSE, pkt->verdict);
	if (is_tracked(pkt)) {
		addr_copy(&source, own_address(pkt, cfg));
		if (source_restore(skb, pkt) && error_make(skb, pkt, &source)) {
			error_begin(pkt, &source);
			go_to(skb, SLUICE_MODULE_NAT);
		}
		return drop(skb, pkt, SLUICE_MODULE_REFUSE, pkt->verdict);
	}
	if (!service_restore(skb, pkt))
		return drop(skb, pkt, SLUICE_MODULE_REFUSE, pkt->verdict);
	/* That nobody serves the Service its own address tells, as a host's would. */
	addr_copy(&source, pkt->verdict == SLUICE_DROP_TTL_EXPIRED ? own_address(pkt, cfg) : &pkt->dst);
	if (!error_make(skb, pkt, &source) || !turn_round(skb))
		return drop(skb, pkt, SLUICE_MODULE_REFUSE, pkt->verdict);
	return send_back(skb, pkt, cfg, &source);
}
