// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames addressed within the node's pod segment: ARP is answered in place, every other frame goes to the
 * endpoint that has the destination address, if the destination MAC is that endpoint's too.
 */
#include <linux/if_packet.h>

#include "lib/parse.h"

char LICENSE[] SEC("license") = "GPL";

/*
 * The MAC that stands for the requested address. None: nobody's, or the asker's own (RFC 5227 probes). The node, which has the
 * gateway's address, and other nodes are behind the gateway: the segment of a podCIDR of before may reach to them.
 */
static __always_inline bool arp_owner(const struct sluice_packet *pkt, __u8 *mac)
{
	const struct sluice_config *cfg = config_get();
	const struct sluice_endpoint *endpoint;
	struct sluice_route route;
	__u32 id;

	endpoint = local_endpoint(&pkt->dst, &id);
	if (endpoint) {
		mac_copy(mac, endpoint->mac);
		return id != pkt->src_endpoint;
	}
	route_get(&pkt->dst, &route);
	if (!cfg || (route.kind != SLUICE_ROUTE_HOST && route.kind != SLUICE_ROUTE_NODE && route.kind != SLUICE_ROUTE_TUNNEL))
		return false;
	mac_copy(mac, cfg->gateway_mac);
	return true;
}

static __always_inline bool arp_answer(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	struct ethhdr *eth = frame_start(skb);
	struct arp_ipv4 *arp = (void *)(eth + 1);
	__u8 ADDR_ON_STACK mac[6], ip[4];

	if ((void *)(arp + 1) > frame_end(skb) || arp->operation_be != bpf_htons(ARP_REQUEST) ||
	    !arp_owner(pkt, mac))
		return false;
	mac_copy(eth->h_dest, eth->h_source);
	mac_copy(eth->h_source, mac);
	arp->operation_be = bpf_htons(ARP_REPLY);
	__builtin_memcpy(ip, arp->target_ip, sizeof(ip));
	mac_copy(arp->target_mac, arp->sender_mac);
	__builtin_memcpy(arp->target_ip, arp->sender_ip, sizeof(ip));
	mac_copy(arp->sender_mac, mac);
	__builtin_memcpy(arp->sender_ip, ip, sizeof(ip));
	return true;
}

/* By the address, which has a hint; the MAC table only tells what is wrong. */
static __always_inline __u32 find_endpoint(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	const struct sluice_endpoint *endpoint;
	const struct ethhdr *eth = frame_start(skb);
	struct sluice_mac_key ADDR_ON_STACK key;
	__u32 id;

	if ((const void *)(eth + 1) > frame_end(skb))
		return SLUICE_DROP_SHORT_PACKET;
	endpoint = local_endpoint(&pkt->dst, &id);
	if (unlikely(!endpoint || !mac_equal(endpoint->mac, eth->h_dest))) {
		mac_key_make(&key, eth->h_dest);
		return bpf_map_lookup_elem(&macs, &key) ? SLUICE_DROP_MAC_IP_MISMATCH :
							  SLUICE_DROP_MAC_UNKNOWN;
	}
	pkt->dst_endpoint = id;
	pkt->output = SLUICE_OUTPUT_POD;
	return SLUICE_DROP_NONE;
}

SEC("tc")
int bridge(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	__u32 reason;

	if (!pkt)
		return TC_ACT_SHOT;
	count_module(pkt, SLUICE_MODULE_BRIDGE);
	if (skb->protocol == bpf_htons(ETH_P_ARP)) {
		if (arp_answer(skb, pkt)) {
			stats_of(pkt)->answered++;
			/* Only pods send ARP. Not by the link's egress: from the moment that the link is up until the
			 * kernel's linkwatch has run, which other work on interfaces may hold up for long, its qdisc
			 * drops everything, and the pod would ask again only after a second. */
			bpf_skb_change_type(skb, PACKET_HOST);
			return bpf_redirect_peer(skb->ifindex, 0);
		}
		reason = SLUICE_DROP_ARP_UNANSWERED;
	} else {
		reason = find_endpoint(skb, pkt);
		if (!reason) {
			go_to_firewall(skb, pkt);
			reason = SLUICE_DROP_TAIL_CALL_MISSING;
		}
	}
	return drop(skb, pkt, SLUICE_MODULE_BRIDGE, reason);
}
