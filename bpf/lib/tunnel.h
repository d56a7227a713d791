/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VXLAN (RFC 7348) over IPv4, written and read by the modules: past the node's IP and UDP and the VXLAN device,
 * which cost more than all modules together. Only what is simple goes this way. The device does all the rest: it is
 * there, up and attached, and whatever one of these functions leaves alone goes to it untouched.
 */
#ifndef SLUICE_LIB_TUNNEL_H
#define SLUICE_LIB_TUNNEL_H

#include <linux/if_packet.h>

#include "lib/checksum.h"
#include "lib/mtu.h"

#define TUNNEL_TTL 64
#define VXLAN_HAS_VNI 0x08000000
#define IPV4_WITHOUT_OPTIONS 0x45
#define ECN_MASK 3
#define ECN_ECT_0 2
#define ECN_CE 3

#define TUNNEL_PORTS (SLUICE_TUNNEL_PORT_MAX - SLUICE_TUNNEL_PORT_MIN + 1)

/* Between the outer Ethernet header and the inner packet. */
struct tunnel_headers {
	struct iphdr ip;
	struct udphdr udp;
	__be32 flags_be;
	__be32 vni_be;		/* in the upper 24 bits */
	struct ethhdr inner;
};

#define TUNNEL_OVERHEAD 50	/* without the padding at its end */
_Static_assert(offsetof(struct tunnel_headers, inner) + ETH_HLEN == TUNNEL_OVERHEAD, "tunnel_headers");

static __always_inline bool checksum_holds(const struct iphdr *ip)
{
	const word32 *word = (const void *)ip;

	return fold((__u64)word[0] + word[1] + word[2] + word[3] + word[4]) == 0xffff;
}

/*
 * The device hands packets on from a queue, so that one of ours could overtake an earlier one of its flow. Once it has
 * had one it gets all of them, until a second after the last that had to be its. Flows are told apart by source port.
 */
static __always_inline bool overtakes(__be16 source_be, __u64 now_ns, bool device)
{
	__u32 flow = bpf_ntohs(source_be) % SLUICE_TUNNEL_FLOWS;
	__u32 *last = bpf_map_lookup_elem(&tunnel_flows, &flow);
	__u32 now = now_ns >> 20;

	if (!last)
		return true;
	if (device)
		*last = now;
	return device || now - *last < 1024;
}

/* Is it a packet of the tunnel, whole and for this node? What it carries is not looked at. */
static __always_inline const struct tunnel_headers *tunnel_headers_of(struct __sk_buff *skb,
								      const struct sluice_config *cfg)
{
	const struct tunnel_headers *outer;
	struct sluice_uplink uplink;
	const struct iphdr *ip;

	if (!cfg->tunnel_port_be || skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present ||
	    skb->pkt_type != PACKET_HOST)
		return NULL;
	make_linear(skb, ETH_HLEN + sizeof(*ip));
	ip = frame_start(skb) + ETH_HLEN;
	if ((const void *)(ip + 1) > frame_end(skb) || ip->protocol != IPPROTO_UDP ||
	    ip->daddr != addr_v4(&cfg->node_ipv4))
		return NULL;
	make_linear(skb, ETH_HLEN + TUNNEL_OVERHEAD + sizeof(struct iphdr));
	outer = frame_start(skb) + ETH_HLEN;
	if ((const void *)outer + TUNNEL_OVERHEAD > frame_end(skb) || outer->udp.dest != cfg->tunnel_port_be ||
	    *(const __u8 *)outer != IPV4_WITHOUT_OPTIONS || outer->ip.frag_off & bpf_htons(IPV4_FRAGMENT) ||
	    ETH_HLEN + bpf_ntohs(outer->ip.tot_len) != skb->len ||
	    bpf_ntohs(outer->udp.len) + sizeof(struct iphdr) != bpf_ntohs(outer->ip.tot_len) ||
	    masquerade_port(cfg, outer->udp.source) || outer->flags_be != bpf_htonl(VXLAN_HAS_VNI) ||
	    outer->vni_be != bpf_htonl(cfg->vni << 8) ||
	    !checksum_holds(&outer->ip))
		return NULL;
	/* By another interface it is the kernel's to filter (rp_filter), and then the device's: who is there could else forge
	 * another node's address past the filter. */
	if (!uplink_get(skb->ifindex, &uplink) || !(uplink.flags & SLUICE_UPLINK_UNDERLAY))
		return NULL;
	return outer;
}

/*
 * Takes the tunnel's headers off a packet that an uplink received. Returns the address of the node that sent it; 0:
 * not of the tunnel, or the device's, for what it carries, for a checksum that is to be verified or a congestion mark
 * that the inner packet is to get (RFC 6040), or because it was merged of several: the kernel marks it as a tunnel's
 * packet then, and only the device can take the mark away.
 */
static __always_inline __be32 tunnel_strip(struct __sk_buff *skb, const struct sluice_config *cfg, __u64 now_ns)
{
	const struct tunnel_headers *outer = tunnel_headers_of(skb, cfg);
	__be32 remote_be;
	bool device;

	if (!outer)
		return 0;
	remote_be = outer->ip.saddr;
	device = skb->gso_size || outer->udp.check || (outer->ip.tos & ECN_MASK) == ECN_CE ||
		 outer->inner.h_proto != bpf_htons(ETH_P_IP);
	if (overtakes(outer->udp.source, now_ns, device))
		return 0;
	if (bpf_skb_adjust_room(skb, -TUNNEL_OVERHEAD, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return 0;
	/* What the interface verified of the outer checksum, as the stack's UDP has it. */
	bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
	return remote_be;
}

/* In whole words: the helper that copies them would else wait for the narrower stores to retire. */
static __always_inline void tunnel_headers_make(struct tunnel_headers *outer, const struct sluice_config *cfg,
						__be32 node_be, __be16 source_be, __u8 tos, __u32 length)
{
	const __u8 ecn = tos & ECN_MASK;
	const __be32 own_be = addr_v4(&cfg->node_ipv4);
	const __be16 length_be = bpf_htons(length), udp_length_be = bpf_htons(length - sizeof(struct iphdr));
	/* Of the IPv4 header, less its checksum. The identification is for those that are fragmented on the way. */
	const __u32 first = IPV4_WITHOUT_OPTIONS | (ecn == ECN_CE ? ECN_ECT_0 : ecn) << 8 | (__u32)length_be << 16;
	const __u32 second = bpf_get_prandom_u32() & 0xffff;
	const __u32 third = TUNNEL_TTL | IPPROTO_UDP << 8;
	const __u16 check = ~fold((__u64)first + second + third + own_be + node_be);
	/* The receiver goes by addresses, not by the inner MACs; they only have to be unicast. */
	const __u64 mac = *(const word32 *)cfg->gateway_mac | (__u64) * (const word16 *)(cfg->gateway_mac + 4) << 32;
	word64 *word = (word64 *)outer;

	word[0] = first | (__u64)second << 32;
	word[1] = third | (__u32)check << 16 | (__u64)own_be << 32;
	word[2] = node_be | (__u64)source_be << 32 | (__u64)cfg->tunnel_port_be << 48;
	word[3] = udp_length_be | (__u64)bpf_htonl(VXLAN_HAS_VNI) << 32;
	word[4] = bpf_htonl(cfg->vni << 8) | mac << 32;
	word[5] = (mac >> 32 & 0xffff) | mac << 16;
	outer->inner.h_proto = bpf_htons(ETH_P_IP);
}

/* The way to the other node, as the node's FIB has it. False: not by an Ethernet uplink, or too narrow. */
static __always_inline bool ask_fib(struct __sk_buff *skb, const struct sluice_config *cfg, __be32 node_be,
				    __be16 source_be, __u32 length, struct sluice_tunnel_hop *hop)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_UDP,
		.sport = source_be,
		.dport = cfg->tunnel_port_be,
		.tot_len = length,
		.ipv4_src = addr_v4(&cfg->node_ipv4),
		.ipv4_dst = node_be,
		.ifindex = cfg->host_ifindex,
	};
	long result = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	struct sluice_uplink uplink;

	/* Without a neighbour entry the rest of the answer is there; redirect_neigh resolves it. */
	if ((result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH) ||
	    !uplink_get(fib.ifindex, &uplink) || !(uplink.flags & SLUICE_UPLINK_ETHERNET))
		return false;
	hop->next_hop_be = fib.ipv4_dst;
	hop->ifindex = fib.ifindex;
	return true;
}

/* The same, asked once a flow and tick of the clock. Per flow: where there are several ways, the FIB keeps to one for
 * each. NULL: there is none. */
static __always_inline const struct sluice_tunnel_hop *next_hop(struct __sk_buff *skb, const struct sluice_config *cfg,
								__be32 node_be, __be16 source_be, __u32 length,
								__u64 now_ns)
{
	__u32 flow = (bpf_ntohl(node_be) + bpf_ntohs(source_be)) % SLUICE_TUNNEL_HOPS;
	struct sluice_tunnel_hop *hop = bpf_map_lookup_elem(&tunnel_hops, &flow);
	const __u32 now = now_ns >> 20;

	if (!hop || length > 0xffff)
		return NULL;
	if (hop->asked == now && hop->node_be == node_be && hop->source_be == source_be && length <= hop->fits)
		return hop;
	hop->fits = 0;	/* until it is an answer again */
	if (!ask_fib(skb, cfg, node_be, source_be, length, hop))
		return NULL;
	hop->node_be = node_be;
	hop->asked = now;
	hop->source_be = source_be;
	hop->fits = length;
	return hop;
}

enum tunnel_wrapped {
	TUNNEL_WRAPPED,
	TUNNEL_LEFT,	/* to the device, as it was */
	TUNNEL_FAILED,	/* half rewritten */
};

/*
 * Puts the headers in front of a packet and finds the way to the other node. Left is what goes by another interface
 * than an Ethernet uplink (which may encrypt), what does not fit the path, and what the kernel makes no room in for a tunnel
 * (before Linux 5.13, or if it has such headers already).
 */
static __always_inline enum tunnel_wrapped tunnel_wrap(struct __sk_buff *skb, const struct sluice_packet *pkt,
				       const struct sluice_config *cfg, __be32 *next_hop_be,
				       __u32 *ifindex)
{
	struct tunnel_headers ADDR_ON_STACK outer;
	const struct sluice_tunnel_hop *hop;
	const struct iphdr *inner;
	__be16 source_be;
	__u32 segment;
	__u8 tos;

	if (!cfg->tunnel_port_be)
		return TUNNEL_LEFT;
	segment = segment_size(skb, pkt);
	inner = frame_start(skb) + ETH_HLEN;
	if (!segment || skb->len - ETH_HLEN + TUNNEL_OVERHEAD > 0xffff || (const void *)(inner + 1) > frame_end(skb))
		return TUNNEL_LEFT;
	tos = inner->tos;
	source_be = bpf_htons(SLUICE_TUNNEL_PORT_MIN + (((__u64)bpf_get_hash_recalc(skb) * TUNNEL_PORTS) >> 32));
	hop = next_hop(skb, cfg, pkt->route.tunnel_be, source_be, segment + TUNNEL_OVERHEAD, pkt->now_ns);
	if (!hop)
		return TUNNEL_LEFT;
	*next_hop_be = hop->next_hop_be;
	*ifindex = hop->ifindex;
	if (bpf_skb_adjust_room(skb, TUNNEL_OVERHEAD, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
					BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH))
		return TUNNEL_LEFT;
	tunnel_headers_make(&outer, cfg, pkt->route.tunnel_be, source_be, tos, skb->len - ETH_HLEN);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, TUNNEL_OVERHEAD, BPF_F_RECOMPUTE_CSUM) ? TUNNEL_FAILED :
												   TUNNEL_WRAPPED;
}

#endif
