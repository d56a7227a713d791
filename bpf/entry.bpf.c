// SPDX-License-Identifier: GPL-2.0-only
/*
 * First module of every packet: parses it into the packet context, refuses what is short, forged or not
 * supported, and leaves to the stack what the uplink receives for the node itself. One program a hook.
 */
#include "lib/embedded.h"
#include "lib/masquerade.h"
#include "lib/parse.h"
#include "lib/service.h"
#include "lib/tunnel.h"

char LICENSE[] SEC("license") = "GPL";

/* Nothing here needs a finer clock than the tick, and the jiffies are read without a call. */
static __always_inline void read_clock(struct sluice_packet *pkt)
{
	const __u64 tick = bpf_jiffies64();

	if (likely(pkt->tick == tick))
		return;
	pkt->tick = tick;
	pkt->now_ns = bpf_ktime_get_ns();
}

static __always_inline struct sluice_packet *packet_arrived(void)
{
	struct sluice_packet *pkt = packet_get();

	if (pkt)
		read_clock(pkt);
	return pkt;
}

static __always_inline void packet_begin(struct sluice_packet *pkt, enum sluice_hook hook)
{
	struct sluice_stats *st = stats_of(pkt);

	st->in[hook]++;
	st->module_packets[SLUICE_MODULE_ENTRY]++;
	/* What stands behind is written before it is read. */
	__builtin_memset(pkt, 0, offsetof(struct sluice_packet, related_src));
	pkt->hook = hook;
	pkt->firewall = SLUICE_MODULE_FIREWALL;
}

static __always_inline int pass_on(struct __sk_buff *skb, struct sluice_packet *pkt, __u32 reason)
{
	if (!reason) {
		if (skb->protocol == bpf_htons(ETH_P_ARP))
			go_to(skb, SLUICE_MODULE_BRIDGE);
		else
			go_to(skb, SLUICE_MODULE_NAT);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	}
	return drop(skb, pkt, SLUICE_MODULE_ENTRY, reason);
}

static __always_inline __u32 protocol_refused(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? SLUICE_DROP_IPV6_UNSUPPORTED :
							SLUICE_DROP_ETHERTYPE_UNSUPPORTED;
}

static __always_inline __u32 parse_rest(struct __sk_buff *skb, struct sluice_packet *pkt,
					const struct ipv4_rest *rest)
{
	__u32 reason;

	if (v4_is_multicast(addr_v4(&pkt->dst)))
		return SLUICE_DROP_MULTICAST_UNSUPPORTED;
	reason = parse_l4(skb, pkt, rest);
	if (!reason && unlikely(pkt->flags & SLUICE_PKT_FRAGMENT_FIRST))
		fragment_first_note(pkt);
	return reason;
}

/* ---- from a pod ------------------------------------------------------------------------ */
static __always_inline __u32 arp_from_pod(struct __sk_buff *skb, struct sluice_packet *pkt,
					  const struct sluice_endpoint *endpoint)
{
	const struct arp_ipv4 *arp;
	__be32 sender, target;

	make_linear(skb, ETH_HLEN + sizeof(*arp));
	arp = frame_start(skb) + ETH_HLEN;
	if ((const void *)(arp + 1) > frame_end(skb))
		return SLUICE_DROP_SHORT_PACKET;
	if (arp->hardware_be != bpf_htons(ARP_HARDWARE_ETHERNET) ||
	    arp->protocol_be != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 ||
	    arp->protocol_length != 4)
		return SLUICE_DROP_BAD_HEADER;
	__builtin_memcpy(&sender, arp->sender_ip, sizeof(sender));
	__builtin_memcpy(&target, arp->target_ip, sizeof(target));
	addr_set_v4(&pkt->src, sender);
	addr_set_v4(&pkt->dst, target);
	pkt->l3_offset = ETH_HLEN;
	if (!mac_equal(arp->sender_mac, endpoint->mac))
		return SLUICE_DROP_SOURCE_MAC;
	if (!addr_equal(&pkt->src, &endpoint->ipv4))
		return SLUICE_DROP_SOURCE_IP;
	return SLUICE_DROP_NONE;
}

/* Sets the source's endpoint by the interface. */
static __always_inline __u32 find_source(struct __sk_buff *skb, struct sluice_packet *pkt,
					 const struct sluice_endpoint **endpoint)
{
	struct sluice_iface_key key = { .ifindex = skb->ifindex };
	__u32 *hint = hint_get(HINT_IFACE, key.ifindex);
	const __u32 *found;
	__u32 id = hint ? *hint : 0;

	*endpoint = endpoint_get(id);
	if (!id || !*endpoint || (*endpoint)->ifindex != key.ifindex) {
		found = bpf_map_lookup_elem(&ifaces, &key);
		if (!found)
			return SLUICE_DROP_ENDPOINT_UNKNOWN;
		id = *found;
		*endpoint = endpoint_get(id);
		if (!*endpoint)
			return SLUICE_DROP_MAP_MISSING;
		if ((*endpoint)->ifindex != key.ifindex)
			return SLUICE_DROP_ENDPOINT_UNKNOWN;
		if (hint)
			*hint = id;
	}
	pkt->src_endpoint = id;
	return SLUICE_DROP_NONE;
}

static __always_inline __u32 from_pod(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	const struct sluice_config *cfg = config_get();
	const struct sluice_endpoint *endpoint;
	struct ipv4_rest rest;
	const struct ethhdr *eth;
	bool group;
	__u32 reason;

	if (!cfg)
		return SLUICE_DROP_MAP_MISSING;
	reason = find_source(skb, pkt, &endpoint);
	if (reason)
		return reason;

	make_linear(skb, ETH_HLEN);
	eth = frame_start(skb);
	if ((const void *)(eth + 1) > frame_end(skb))
		return SLUICE_DROP_SHORT_PACKET;
	if (!mac_equal(eth->h_source, endpoint->mac))
		return SLUICE_DROP_SOURCE_MAC;
	group = eth->h_dest[0] & 1;
	if (!mac_equal(eth->h_dest, cfg->gateway_mac))
		pkt->flags |= SLUICE_PKT_BRIDGED;

	/* A tag would survive to the other pod, past rules that do not know it. */
	if (skb->vlan_present)
		return SLUICE_DROP_ETHERTYPE_UNSUPPORTED;
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return arp_from_pod(skb, pkt, endpoint);
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return protocol_refused(skb);
	reason = parse_ipv4(skb, pkt, &rest);
	if (reason)
		return reason;
	if (!addr_equal(&pkt->src, &endpoint->ipv4))
		return SLUICE_DROP_SOURCE_IP;
	if (group)
		return SLUICE_DROP_MULTICAST_UNSUPPORTED;
	return parse_rest(skb, pkt, &rest);
}

SEC("tc")
int entry_pod(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_arrived();

	if (!pkt)
		return TC_ACT_SHOT;
	packet_begin(pkt, SLUICE_HOOK_POD);
	return pass_on(skb, pkt, from_pod(skb, pkt));
}

/* ---- from the node's stack --------------------------------------------------------------- */
static __always_inline __u32 from_host(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	struct sluice_route source;
	struct ipv4_rest rest;
	__u32 reason;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return protocol_refused(skb);
	reason = parse_ipv4(skb, pkt, &rest);
	if (reason)
		return reason;
	route_get(&pkt->src, &source);
	if (source.kind == SLUICE_ROUTE_HOST)
		pkt->flags |= SLUICE_PKT_OWN_NODE;
	else	/* forwarded by the stack; a pod's egress rules hold wherever its packet comes from */
		pkt->src_endpoint = local_get(&pkt->src);
	return parse_rest(skb, pkt, &rest);
}

SEC("tc")
int entry_host(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_arrived();

	if (!pkt)
		return TC_ACT_SHOT;
	packet_begin(pkt, SLUICE_HOOK_HOST);
	return pass_on(skb, pkt, from_host(skb, pkt));
}

/* ---- from another node --------------------------------------------------------------------- */
static __always_inline __u32 from_node(struct __sk_buff *skb, struct sluice_packet *pkt, __be32 node_be)
{
	struct sluice_route source;
	struct ipv4_rest rest;
	__u32 reason;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return protocol_refused(skb);
	reason = parse_ipv4(skb, pkt, &rest);
	if (reason)
		return reason;
	route_get(&pkt->src, &source);
	if ((source.kind != SLUICE_ROUTE_TUNNEL && source.kind != SLUICE_ROUTE_NODE) ||
	    source.tunnel_be != node_be)
		return SLUICE_DROP_TUNNEL_SOURCE;
	return parse_rest(skb, pkt, &rest);
}

static __always_inline __u32 from_overlay(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	const struct sluice_config *cfg = config_get();
	struct bpf_tunnel_key tunnel = {};

	/* The size that the struct had in Linux 5.10; later kernels accept it too. */
	if (!cfg ||
	    bpf_skb_get_tunnel_key(skb, &tunnel, offsetof(struct bpf_tunnel_key, local_ipv4), 0) ||
	    tunnel.tunnel_id != cfg->vni)
		return SLUICE_DROP_TUNNEL_SOURCE;
	return from_node(skb, pkt, bpf_htonl(tunnel.remote_ipv4));
}

SEC("tc")
int entry_overlay(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_arrived();

	if (!pkt)
		return TC_ACT_SHOT;
	packet_begin(pkt, SLUICE_HOOK_OVERLAY);
	return pass_on(skb, pkt, from_overlay(skb, pkt));
}

/* ---- from outside --------------------------------------------------------------------------- */
/* Could the ICMP error be about what a masqueraded connection, or a Service, sent? */
static __always_inline bool is_our_error(struct __sk_buff *skb, const struct sluice_packet *pkt,
					 const struct sluice_config *cfg)
{
	struct sluice_service_key ADDR_ON_STACK key;
	struct sluice_service service;
	struct embedded in;

	if (!embedded_parse(skb, pkt, &in) || in.src_be != addr_v4(&pkt->dst))
		return false;
	if (masquerade_port(cfg, in.sport_be))
		return true;
	service_key_make(&key, &pkt->dst, in.sport_be, in.proto, SLUICE_SCOPE_OUTSIDE);
	return service_get(&key, &service);
}

/* Could the packet be for a masqueraded connection? Under which addresses there are any, `nat` knows. */
static __always_inline bool masquerade_candidate(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	return (pkt->proto == IPPROTO_TCP || pkt->proto == IPPROTO_UDP || pkt->proto == IPPROTO_ICMP) &&
	       masquerade_port(cfg, pkt->dport_be);
}

static __always_inline bool is_ours(struct __sk_buff *skb, struct sluice_packet *pkt,
				    const struct sluice_config *cfg, struct ipv4_rest *rest)
{
	struct sluice_service service;

	/* pkt_type: a promiscuous uplink also sees what is for others. */
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present ||
	    skb->pkt_type != PACKET_HOST || parse_ipv4(skb, pkt, rest))
		return false;
	if (!addr_equal(&pkt->dst, &cfg->node_ipv4)) {
		pkt->dst_endpoint = local_get(&pkt->dst);
		if (pkt->dst_endpoint)
			return !parse_l4(skb, pkt, rest);
	}
	if (parse_l4(skb, pkt, rest))
		return false;
	if (pkt->flags & SLUICE_PKT_ICMP_ERROR)
		return is_our_error(skb, pkt, cfg);
	if (service_find(pkt, &service)) {
		pkt->flags |= SLUICE_PKT_SERVICE;
		return true;
	}
	return masquerade_candidate(pkt, cfg);
}

static __always_inline __u32 from_uplink(struct sluice_packet *pkt)
{
	struct sluice_route source;

	if (pkt->dst_endpoint || pkt->flags & SLUICE_PKT_SERVICE) {
		pkt->flags &= ~SLUICE_PKT_SERVICE;
		/* Pods' and nodes' rules must not be had by forging a source outside the tunnel. */
		route_get(&pkt->src, &source);
		if (source.kind == SLUICE_ROUTE_PODS || source.kind == SLUICE_ROUTE_HOST ||
		    source.kind == SLUICE_ROUTE_TUNNEL)
			return SLUICE_DROP_SOURCE_IP;
	}
	if (unlikely(pkt->flags & SLUICE_PKT_FRAGMENT_FIRST))
		fragment_first_note(pkt);
	return SLUICE_DROP_NONE;
}

/* A packet for this node's tunnel by a port that nodes use for masquerade is not a node's but a masqueraded pod's: the
 * VXLAN device would take it for the node's, and what it carries for any pod of that node. */
static __always_inline bool is_forged_tunnel(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct sluice_route to;

	if (likely(pkt->proto != IPPROTO_UDP || pkt->dport_be != cfg->vxlan_port_be) ||
	    !masquerade_port(cfg, pkt->sport_be))
		return false;
	route_get(&pkt->dst, &to);
	return to.kind == SLUICE_ROUTE_HOST;
}

static __always_inline int from_wire(struct __sk_buff *skb, struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct ipv4_rest rest;
	__be32 node_be;

	node_be = tunnel_strip(skb, cfg, pkt->now_ns);
	if (node_be) {
		packet_begin(pkt, SLUICE_HOOK_OVERLAY);
		stats_of(pkt)->direct_in++;
		return pass_on(skb, pkt, from_node(skb, pkt, node_be));
	}
	packet_begin(pkt, SLUICE_HOOK_UPLINK);
	if (!is_ours(skb, pkt, cfg, &rest)) {
		if (unlikely(is_forged_tunnel(pkt, cfg)))
			return drop(skb, pkt, SLUICE_MODULE_ENTRY, SLUICE_DROP_TUNNEL_PORT);
		return to_stack(pkt);
	}
	return pass_on(skb, pkt, from_uplink(pkt));
}

SEC("tc")
int entry_uplink(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_arrived();
	const struct sluice_config *cfg = config_get();

	if (!pkt || !cfg)
		return TC_ACT_SHOT;
	return from_wire(skb, pkt, cfg);
}

/* Every module counts on an Ethernet header, and so does the interface that the packet is sent to next. Where it goes to the
 * stack, that begins at the network header. */
static __always_inline bool ethernet_push(struct __sk_buff *skb)
{
	struct ethhdr *eth;

	if (bpf_skb_change_head(skb, ETH_HLEN, 0))
		return false;
	eth = frame_start(skb);
	if ((void *)(eth + 1) > frame_end(skb))
		return false;
	eth->h_proto = skb->protocol;
	return true;
}

SEC("tc")
int entry_bare(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_arrived();
	const struct sluice_config *cfg = config_get();

	if (!pkt || !cfg)
		return TC_ACT_SHOT;
	if (!ethernet_push(skb)) {
		packet_begin(pkt, SLUICE_HOOK_UPLINK);
		return drop(skb, pkt, SLUICE_MODULE_ENTRY, SLUICE_DROP_REWRITE_FAILED);
	}
	return from_wire(skb, pkt, cfg);
}
