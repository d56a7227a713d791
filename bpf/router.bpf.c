// SPDX-License-Identifier: GPL-2.0-only
/*
 * Packets for the gateway's MAC and all that come from outside the segment: decides where they leave and
 * takes one from the time to live.
 */
#include "lib/parse.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline __u32 decide_remote(struct sluice_packet *pkt)
{
	const struct sluice_config *cfg;

	packet_route(pkt);
	switch (pkt->route.kind) {
	case SLUICE_ROUTE_PODS:
		return SLUICE_DROP_ENDPOINT_GONE;
	case SLUICE_ROUTE_HOST:
		if (pkt->hook == SLUICE_HOOK_UPLINK && !(pkt->flags & SLUICE_PKT_TRANSLATED))
			return SLUICE_DROP_NOT_FOR_POD;
		/* The node's own traffic: no policy, and no conntrack entry that a full table could refuse, unless a
		 * translation needs one. */
		pkt->flags |= SLUICE_PKT_OWN_NODE;
		if (!(pkt->flags & (SLUICE_PKT_SERVICE | SLUICE_PKT_UNSERVICE | SLUICE_PKT_MASQUERADE)))
			pkt->next = SLUICE_MODULE_DELIVER;
		pkt->output = SLUICE_OUTPUT_HOST;
		return SLUICE_DROP_NONE;
	}
	/* What came from outside is not sent out again, unless it was for a Service or is the answer. */
	if ((pkt->hook == SLUICE_HOOK_OVERLAY || pkt->hook == SLUICE_HOOK_UPLINK) &&
	    !(pkt->flags & SLUICE_PKT_TRANSLATED))
		return SLUICE_DROP_NOT_FOR_POD;
	if (pkt->route.kind == SLUICE_ROUTE_TUNNEL ||
	    (pkt->route.kind == SLUICE_ROUTE_NODE &&
	     !(pkt->flags & (SLUICE_PKT_MASQUERADE | SLUICE_PKT_UNSERVICE)))) {
		pkt->output = SLUICE_OUTPUT_TUNNEL;
		return SLUICE_DROP_NONE;
	}
	if (v4_stays_inside(addr_v4(&pkt->dst)))
		return SLUICE_DROP_NO_ROUTE;
	cfg = config_get();
	if (!cfg || !cfg->uplinks)
		return SLUICE_DROP_NO_UPLINK;
	pkt->output = SLUICE_OUTPUT_UPLINK;
	return SLUICE_DROP_NONE;
}

static __always_inline __u32 decrement_ttl(struct __sk_buff *skb)
{
	struct iphdr *ip = frame_start(skb) + ETH_HLEN;
	__u32 check;

	if ((void *)(ip + 1) > frame_end(skb))
		return SLUICE_DROP_REWRITE_FAILED;
	if (ip->ttl <= 1)
		return SLUICE_DROP_TTL_EXPIRED;
	ip->ttl--;
	/* RFC 1624: the word with the time to live is less by 0x0100, so the checksum is more by it. */
	check = ip->check + bpf_htons(0x0100);
	ip->check = check + (check >> 16);
	return SLUICE_DROP_NONE;
}

/*
 * Is the packet for a node's tunnel? A pod's packet that arrives under a node's address would be taken for that node's, and
 * what it carries for any of its pods. So nothing that passes the modules goes to the tunnel's port of a node, nor to that
 * port anywhere under a node's address, or by a Service: what leaves may be for an address of a node that its Node object does
 * not name. The node's own tunnel packets do not pass the router.
 */
#define NOT_ITS_SENDERS (SLUICE_PKT_MASQUERADE | SLUICE_PKT_UNSERVICE | SLUICE_PKT_SERVICE | SLUICE_PKT_TRANSLATED)

static __always_inline bool for_tunnel_port(struct sluice_packet *pkt)
{
	const struct sluice_config *cfg;
	__be16 port_be;

	if (likely(pkt->proto != IPPROTO_UDP) || pkt->output == SLUICE_OUTPUT_POD)
		return false;
	/* nat_commit puts the client's own port in place of the one that the backend sees. */
	port_be = pkt->flags & SLUICE_PKT_UNSERVICE ? pkt->client_port_be : pkt->dport_be;
	cfg = config_get();
	if (cfg && likely(port_be != cfg->vxlan_port_be))
		return false;
	packet_route(pkt);
	return pkt->route.kind == SLUICE_ROUTE_HOST || pkt->route.kind == SLUICE_ROUTE_NODE ||
	       (pkt->output == SLUICE_OUTPUT_UPLINK && pkt->flags & NOT_ITS_SENDERS);
}

static __always_inline __u32 route(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	__u32 reason;

	if (!pkt->dst_endpoint)
		pkt->dst_endpoint = local_get(&pkt->dst);
	if (pkt->flags & SLUICE_PKT_STACK) {
		pkt->output = SLUICE_OUTPUT_HOST;
	} else if (pkt->dst_endpoint) {
		pkt->output = SLUICE_OUTPUT_POD;
	} else {
		reason = decide_remote(pkt);
		if (reason)
			return reason;
	}
	if (unlikely(for_tunnel_port(pkt)))
		return SLUICE_DROP_TUNNEL_PORT;
	/* The stack has done so already, or will itself, when it forwards. */
	if (pkt->hook == SLUICE_HOOK_HOST || pkt->output == SLUICE_OUTPUT_HOST)
		return SLUICE_DROP_NONE;
	return decrement_ttl(skb);
}

SEC("tc")
int router(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	__u32 reason;

	if (!pkt)
		return TC_ACT_SHOT;
	count_module(pkt, SLUICE_MODULE_ROUTER);
	reason = route(skb, pkt);
	if (!reason) {
		go_to_firewall(skb, pkt);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	} else if (reason == SLUICE_DROP_TTL_EXPIRED) {
		pkt->verdict = reason;
		go_to(skb, SLUICE_MODULE_REFUSE);
	}
	return drop(skb, pkt, SLUICE_MODULE_ROUTER, reason);
}
