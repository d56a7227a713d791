/* SPDX-License-Identifier: GPL-2.0-only */
/* Connections that conntrack does not have: who serves them, and what the outside is to see. */
#ifndef SLUICE_NAT_OPEN_H
#define SLUICE_NAT_OPEN_H

#include "lib/mtu.h"
#include "lib/service.h"
#include "nat/established.h"

/* Beside the drop reasons: the sender is told of the one in pkt->verdict. */
#define TO_REFUSE (SLUICE_DROP_SLOTS + 2)

#define TCP_FLAGS_OFFSET 13	/* in the header */
#define TCP_FLAG_BIT_SYN 0x02
#define SOCKET_LISTENS 10	/* TCP_LISTEN of the kernel */

static __always_inline bool can_masquerade(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	__u8 type;

	if (pkt->proto == IPPROTO_TCP || pkt->proto == IPPROTO_UDP)
		return true;
	/* Of ICMP only the echo has something to be told apart by. */
	return pkt->proto == IPPROTO_ICMP && !(pkt->flags & SLUICE_PKT_FRAGMENT_LATER) &&
	       !bpf_skb_load_bytes(skb, pkt->l4_offset, &type, sizeof(type)) &&
	       (type == ICMP_ECHO || type == ICMP_ECHO_REPLY);
}

/* A backend or a masquerade port is chosen for what can open a connection only: of TCP a SYN, or, for a connection that
 * conntrack has lost, a plain segment in its middle. Whatever answers or ends a connection opens none. */
static __always_inline bool can_open(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	__u8 flags;

	if (pkt->proto != IPPROTO_TCP)
		return true;
	if (pkt->flags & (SLUICE_PKT_TCP_FIN | SLUICE_PKT_TCP_RST | SLUICE_PKT_FRAGMENT_LATER))
		return false;
	if (pkt->flags & SLUICE_PKT_TCP_SYN)
		return true;
	return !bpf_skb_load_bytes(skb, pkt->l4_offset + TCP_FLAGS_OFFSET, &flags, sizeof(flags)) &&
	       !(flags & TCP_FLAG_BIT_SYN);
}

/* Is the packet, which belongs to no connection, to be remembered? Nothing follows a reset, and what it would leave could
 * stand in a connection's way. */
static __always_inline bool leaves_entry(const struct sluice_packet *pkt)
{
	return !(pkt->flags & SLUICE_PKT_TCP_RST);
}

/* Does a socket of the node have a connection with the packet's sender, at the packet's ports? */
static __always_inline bool node_has_connection(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	struct bpf_sock_tuple tuple = {
		.ipv4 = { addr_v4(&pkt->src), addr_v4(&pkt->dst), pkt->sport_be, pkt->dport_be },
	};
	struct bpf_sock *socket;
	bool connected = false;

	if (pkt->proto == IPPROTO_TCP) {
		socket = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
		if (socket) {
			connected = socket->state != SOCKET_LISTENS;
			bpf_sk_release(socket);
		}
	} else if (pkt->proto == IPPROTO_UDP) {
		socket = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
		if (socket) {
			connected = socket->dst_ip4 == addr_v4(&pkt->src);
			bpf_sk_release(socket);
		}
	}
	return connected;
}

/*
 * The node's own connections are not tracked, and may use a port that a Service has at the node's address. So a packet to
 * such a Service that opens no connection, or that a socket of the node waits for, is the node's. From inside, only the
 * node's main address is looked at that closely: cluster IPs come this way, too.
 */
static __always_inline bool is_for_node(struct __sk_buff *skb, const struct sluice_packet *pkt,
					const struct sluice_config *cfg)
{
	struct sluice_route route;

	if (pkt->hook == SLUICE_HOOK_HOST)
		return false;
	if (pkt->proto == IPPROTO_TCP && !(pkt->flags & SLUICE_PKT_TCP_SYN)) {
		route_get(&pkt->dst, &route);
		return route.kind == SLUICE_ROUTE_HOST;
	}
	return (pkt->hook == SLUICE_HOOK_UPLINK || addr_equal(&pkt->dst, &cfg->node_ipv4)) &&
	       node_has_connection(skb, pkt);
}

/* No secret: all nodes choose alike. */
static __always_inline __u64 tuple_hash(const struct sluice_ct_key *key)
{
	return sluice_hash(&key->addr[0], &key->addr[1], *(const word64 *)key->port_be);
}

static __always_inline __u32 to_refuse(struct sluice_packet *pkt, __u32 reason)
{
	pkt->verdict = reason;
	return TO_REFUSE;
}

static __always_inline __u32 open_service(struct __sk_buff *skb, struct sluice_packet *pkt,
					  const struct sluice_service *service)
{
	struct client client = { &pkt->src, tuple_hash(&pkt->ct_key), pkt->now_ns };
	const struct sluice_backend *chosen;
	struct sluice_addr ADDR_ON_STACK addr;
	struct tuple tuple;
	__be16 port_be;

	if (!source_allowed(service, &pkt->src))
		return SLUICE_DROP_SERVICE_SOURCE;
	/* A SYN that is repeated goes where the first one went but for once in 69 s. */
	if (service->flags & SLUICE_SERVICE_RANDOM)
		client.hash = (client.hash + (pkt->now_ns >> 36)) * SLUICE_HASH_2;
	chosen = backend_choose(service, &client);
	if (!chosen)
		return service->flags & SLUICE_SERVICE_SILENT ? SLUICE_DROP_SERVICE_NO_BACKEND :
								to_refuse(pkt, SLUICE_DROP_SERVICE_NO_BACKEND);
	addr_copy(&addr, &chosen->addr);
	port_be = chosen->port_be;
	addr_copy(&pkt->front_addr, &pkt->dst);
	pkt->front_port_be = pkt->dport_be;
	pkt->client_port_be = pkt->sport_be;
	/* SCTP's checksum covers the ports, and is not to be had from the old one. */
	if (pkt->proto == IPPROTO_SCTP && port_be != pkt->dport_be)
		return SLUICE_DROP_SERVICE_UNSUPPORTED;
	if (!destination_set(skb, pkt, &addr, port_be))
		return SLUICE_DROP_REWRITE_FAILED;
	pkt->flags |= SLUICE_PKT_SERVICE;
	tuple = packet_tuple(pkt);
	ct_key_make(&pkt->ct_key, &tuple);
	return SLUICE_DROP_NONE;
}

/* Is the other end not to see the originator's address? */
static __always_inline bool to_be_masqueraded(struct sluice_packet *pkt, const struct sluice_config *cfg,
					      const struct sluice_service *service)
{
	if (pkt->flags & SLUICE_PKT_SERVICE) {
		if (service->flags & SLUICE_SERVICE_MASQUERADE ||
		    /* A pod that is its own backend would take its packet for one that it never sent out. */
		    addr_equal(&pkt->src, &pkt->dst) ||
		    /* The node's own port may serve another connection, to the same backend. */
		    pkt->flags & SLUICE_PKT_OWN_NODE)
			return true;
		/* The node's stack would answer by the uplink, the backend's address in place of the Service's. */
		if (pkt->hook == SLUICE_HOOK_UPLINK || pkt->hook == SLUICE_HOOK_HOST) {
			packet_route(pkt);
			return pkt->route.kind == SLUICE_ROUTE_HOST;
		}
	}
	if (pkt->hook != SLUICE_HOOK_POD || addr_is_none(&cfg->node_ipv4))
		return false;
	packet_route(pkt);
	if (pkt->route.kind == SLUICE_ROUTE_WORLD) {
		const struct sluice_endpoint *pod = endpoint_get(pkt->src_endpoint);

		return !pod || !(pod->flags & SLUICE_ENDPOINT_KEEPS_SOURCE);
	}
	return pkt->route.kind == SLUICE_ROUTE_NODE;
}

/*
 * The number of the address of the uplink by which the node's FIB sends what is for pkt->dst. Asked twice where the answer
 * has another address than was asked with: the way may depend on it (ip-rule(8), several next hops).
 */
static __always_inline __u8 number_of_way(struct __sk_buff *skb, const struct sluice_packet *pkt,
					  const struct sluice_config *cfg)
{
	struct sluice_addr ADDR_ON_STACK source = {};
	__u8 number = cfg->node_number;

	for (int i = 0; i < 2; i++) {
		struct sluice_uplink uplink;
		struct bpf_fib_lookup fib;
		long result = fib_ask(skb, cfg, &fib, addr_v4(&source), addr_v4(&pkt->dst), sizeof(struct iphdr));

		if ((result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH) ||
		    !uplink_get(fib.ifindex, &uplink) || (i && uplink.number == number))
			break;
		number = uplink.number;
		masquerade_addr(&source, number);
	}
	return number;
}

/* By which address? That of the way, if it leaves by an uplink. The stack takes nothing from outside that bears an address
 * of its own. */
static __always_inline void masquerade(struct __sk_buff *skb, struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	pkt->flags |= SLUICE_PKT_MASQUERADE;
	packet_route(pkt);
	if (pkt->route.kind == SLUICE_ROUTE_HOST || addr_is_none(&cfg->node_ipv4))
		pkt->masquerade_number = cfg->local_number;
	else if (likely(!cfg->ways_differ) || pkt->route.kind == SLUICE_ROUTE_PODS ||
		 pkt->route.kind == SLUICE_ROUTE_TUNNEL)
		pkt->masquerade_number = cfg->node_number;
	else
		pkt->masquerade_number = number_of_way(skb, pkt, cfg);
}

/* A SYN that is only repeated must keep its masquerade port. */
static __always_inline __u32 keep_port(struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct ct_snapshot ct;

	pkt->nat_port_be = 0;
	switch (ct_find(cfg, &pkt->ct_key, &ct)) {
	case CT_TORN:
		return SLUICE_DROP_CT_BUSY;
	case CT_FOUND:
		if (ct.nat.flags & SLUICE_CT_MASQUERADE &&
		    masquerade_number(ct.nat.flags) == pkt->masquerade_number)
			pkt->nat_port_be = ct.nat.snat_port_be;
		break;
	case CT_ABSENT:
		break;
	}
	return SLUICE_DROP_NONE;
}

static __always_inline __u32 open_connection(struct __sk_buff *skb, struct sluice_packet *pkt,
					     const struct sluice_config *cfg)
{
	struct tuple tuple = packet_tuple(pkt);
	struct sluice_service service = {};
	__u32 reason;

	if (leaves_entry(pkt))
		pkt->next = SLUICE_MODULE_NAT_COMMIT;
	ct_key_make(&pkt->ct_key, &tuple);
	if (service_find(pkt, &service) && !is_for_node(skb, pkt, cfg)) {
		if (!can_open(skb, pkt))
			return SLUICE_DROP_CT_INVALID;
		reason = open_service(skb, pkt, &service);
		if (reason)
			return reason;
	} else if (sent_to_node(pkt)) {
		return TO_STACK;
	} else if (for_service_address(pkt)) {
		return to_refuse(pkt, SLUICE_DROP_SERVICE_PORT);
	}
	if (!to_be_masqueraded(pkt, cfg, &service))
		return SLUICE_DROP_NONE;
	if (!can_masquerade(skb, pkt))
		return SLUICE_DROP_SNAT_UNSUPPORTED;
	if (!can_open(skb, pkt))
		return SLUICE_DROP_CT_INVALID;
	masquerade(skb, pkt, cfg);
	return keep_port(pkt, cfg);
}

#endif
