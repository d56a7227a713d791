// SPDX-License-Identifier: GPL-2.0-only
/* Last module: sends the packet where the bridge or the router decided. */
#include "lib/fragment.h"
#include "lib/tunnel.h"

char LICENSE[] SEC("license") = "GPL";

/* What to do with the packet: a TC_ACT_*, or a drop reason where the action is TC_ACT_SHOT. */
struct outcome {
	int action;
	__u32 reason;
};

static __always_inline struct outcome refused(__u32 reason)
{
	return (struct outcome){ TC_ACT_SHOT, reason };
}

static __always_inline struct outcome sent(int action)
{
	return (struct outcome){ action, SLUICE_DROP_NONE };
}

static __always_inline bool set_macs(struct __sk_buff *skb, const __u8 *destination, const __u8 *source)
{
	struct ethhdr *eth = frame_start(skb);

	if ((void *)(eth + 1) > frame_end(skb))
		return false;
	mac_copy(eth->h_dest, destination);
	mac_copy(eth->h_source, source);
	return true;
}

static __always_inline struct outcome to_pod(struct __sk_buff *skb, const struct sluice_packet *pkt,
					     const struct sluice_config *cfg)
{
	const struct sluice_endpoint *endpoint = endpoint_get(pkt->dst_endpoint);

	if (!endpoint || !endpoint->ifindex)
		return refused(SLUICE_DROP_MAP_MISSING);
	/* Bridged frames have their addresses already. */
	if (!(pkt->flags & SLUICE_PKT_BRIDGED) && !set_macs(skb, endpoint->mac, cfg->gateway_mac))
		return refused(SLUICE_DROP_REWRITE_FAILED);
	/* redirect_peer takes the packet into the pod as it is: without this its stack would refuse the
	 * frame, or route by a mark that the node's programs set. */
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	skb->mark = 0;
	/* redirect_peer goes past the link's egress, and with it past its qdisc. */
	if (endpoint->flags & SLUICE_ENDPOINT_QUEUED)
		return sent(bpf_redirect(endpoint->ifindex, 0));
	return sent(bpf_redirect_peer(endpoint->ifindex, 0));
}

static __always_inline struct outcome to_host(struct __sk_buff *skb, const struct sluice_config *cfg)
{
	if (!set_macs(skb, cfg->gateway_mac, cfg->gateway_mac))
		return refused(SLUICE_DROP_REWRITE_FAILED);
	return sent(bpf_redirect(cfg->host_ifindex, BPF_F_INGRESS));
}

static __always_inline struct outcome to_vxlan_device(struct __sk_buff *skb, const struct sluice_packet *pkt,
						      const struct sluice_config *cfg)
{
	/* The source that the other node knows this one by: the stack might choose another address of the node's. Kernels
	 * before 6.0 do not know the field, and let the route decide. */
	struct bpf_tunnel_key tunnel = {
		.tunnel_id = cfg->vni,
		.remote_ipv4 = bpf_ntohl(pkt->route.tunnel_be),
		.tunnel_ttl = TUNNEL_TTL,
		.local_ipv4 = bpf_ntohl(addr_v4(&cfg->node_ipv4)),
	};

	if (!set_macs(skb, cfg->gateway_mac, cfg->gateway_mac) ||
	    (bpf_skb_set_tunnel_key(skb, &tunnel, sizeof(tunnel), BPF_F_ZERO_CSUM_TX) &&
	     bpf_skb_set_tunnel_key(skb, &tunnel, offsetof(struct bpf_tunnel_key, local_ipv4), BPF_F_ZERO_CSUM_TX)))
		return refused(SLUICE_DROP_REWRITE_FAILED);
	return sent(bpf_redirect(cfg->vxlan_ifindex, 0));
}

/* An initialiser would become a constant without a name in .rodata, for which Linux 5.10 refuses the object's BTF. */
static __always_inline void hop_init(struct bpf_redir_neigh *hop)
{
	__u32 family = AF_INET;

	asm volatile("" : "+r"(family));
	__builtin_memset(hop, 0, sizeof(*hop));
	hop->nh_family = family;
}

static __always_inline struct outcome to_tunnel(struct __sk_buff *skb, const struct sluice_packet *pkt,
						const struct sluice_config *cfg, struct sluice_stats *st)
{
	struct bpf_redir_neigh hop;
	__u32 ifindex;

	hop_init(&hop);
	switch (tunnel_wrap(skb, pkt, cfg, &hop.ipv4_nh, &ifindex)) {
	case TUNNEL_WRAPPED:
		st->direct_out++;
		return sent(bpf_redirect_neigh(ifindex, &hop, sizeof(hop), 0));
	case TUNNEL_FAILED:
		return refused(SLUICE_DROP_REWRITE_FAILED);
	case TUNNEL_LEFT:
		break;
	}
	return to_vxlan_device(skb, pkt, cfg);
}

/* The node's FIB decides, as for a packet that arrived on sluice_host. */
static __always_inline struct outcome to_uplink(struct __sk_buff *skb, struct sluice_packet *pkt,
						const struct sluice_config *cfg)
{
	const __be32 src_be = addr_v4(pkt->flags & (SLUICE_PKT_MASQUERADE | SLUICE_PKT_UNSERVICE) ? &pkt->nat_addr :
												     &pkt->src);
	const __be32 dst_be = addr_v4(&pkt->dst);
	const __u32 segment = segment_size(skb, pkt);
	/* What is beyond an IPv4 packet's size the interface cuts. */
	const __u32 size = segment > 0xffff ? 0 : segment;
	struct bpf_redir_neigh hop;
	struct bpf_fib_lookup fib;
	long result = fib_ask(skb, cfg, &fib, src_be, dst_be, size);

	if (unlikely(result == BPF_FIB_LKUP_RET_FRAG_NEEDED)) {
		fib_mtu(skb, pkt, cfg, &fib, src_be, dst_be, size);
		return refused(SLUICE_DROP_TOO_BIG);
	}
	/* Without a neighbour entry the rest of the answer is there; redirect_neigh resolves it. */
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return refused(SLUICE_DROP_NO_ROUTE);
	hop_init(&hop);
	hop.ipv4_nh = fib.ipv4_dst;
	return sent(bpf_redirect_neigh(fib.ifindex, &hop, sizeof(hop), 0));
}

#define FRAGMENT (SLUICE_PKT_FRAGMENT_FIRST | SLUICE_PKT_FRAGMENT_LATER)

static __always_inline struct outcome send(struct __sk_buff *skb, struct sluice_packet *pkt, struct sluice_stats *st)
{
	const struct sluice_config *cfg = config_get();
	struct outcome outcome = refused(SLUICE_DROP_NO_ROUTE);
	__u64 *counter = NULL;
	__u32 reason;

	if (!cfg)
		return outcome;
	if (unlikely(pkt->flags & FRAGMENT)) {
		reason = fragment_translate(skb, pkt);
		if (reason)
			return refused(reason);
	}
	switch (pkt->output) {
	case SLUICE_OUTPUT_POD:
		counter = &st->delivered;
		outcome = to_pod(skb, pkt, cfg);
		break;
	case SLUICE_OUTPUT_HOST:
		counter = &st->to_stack;
		outcome = to_host(skb, cfg);
		break;
	case SLUICE_OUTPUT_TUNNEL:
		counter = &st->out_tunnel;
		outcome = to_tunnel(skb, pkt, cfg, st);
		break;
	case SLUICE_OUTPUT_UPLINK:
		counter = &st->out_uplink;
		outcome = to_uplink(skb, pkt, cfg);
		break;
	}
	if (outcome.reason)
		return outcome;
	if (counter)
		(*counter)++;
	if (unlikely(pkt->flags & SLUICE_PKT_FRAGMENT_FIRST))
		fragment_remember(pkt);
	return outcome;
}

SEC("tc")
int deliver(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	struct outcome outcome;

	if (!pkt)
		return TC_ACT_SHOT;
	count_module(pkt, SLUICE_MODULE_DELIVER);
	outcome = send(skb, pkt, stats_of(pkt));
	if (unlikely(outcome.reason == SLUICE_DROP_TOO_BIG)) {
		pkt->verdict = outcome.reason;
		go_to(skb, SLUICE_MODULE_REFUSE);
	}
	return outcome.reason ? drop(skb, pkt, SLUICE_MODULE_DELIVER, outcome.reason) : outcome.action;
}
