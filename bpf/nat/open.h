/* SPDX-License-Identifier: GPL-2.0-only */
/* Connections that conntrack does not have: who serves them, and what the outside is to see. */
#ifndef SLUICE_NAT_OPEN_H
#define SLUICE_NAT_OPEN_H

#include "lib/service.h"
#include "nat/established.h"

/* Beside the drop reasons: the sender is told that nobody serves it. */
#define TO_REFUSE (SLUICE_DROP_SLOTS + 2)

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

/* No secret: all nodes choose alike. */
static __always_inline __u64 tuple_hash(const struct sluice_ct_key *key)
{
	return sluice_hash(&key->addr[0], &key->addr[1], *(const word64 *)key->port_be);
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
		return service->flags & SLUICE_SERVICE_SILENT ? SLUICE_DROP_SERVICE_NO_BACKEND : TO_REFUSE;
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

/* By which address? The stack takes nothing from outside that bears an address of its own. */
static __always_inline void masquerade(struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	pkt->flags |= SLUICE_PKT_MASQUERADE;
	packet_route(pkt);
	if (pkt->route.kind == SLUICE_ROUTE_HOST || addr_is_none(&cfg->node_ipv4))
		pkt->flags |= SLUICE_PKT_SNAT_LOCAL;
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
		if (ct.nat.flags & SLUICE_CT_MASQUERADE)
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

	pkt->next = SLUICE_MODULE_NAT_COMMIT;
	ct_key_make(&pkt->ct_key, &tuple);
	if (service_find(pkt, &service)) {
		reason = open_service(skb, pkt, &service);
		if (reason)
			return reason;
	} else if (sent_to_node(pkt)) {
		return TO_STACK;
	}
	if (!to_be_masqueraded(pkt, cfg, &service))
		return SLUICE_DROP_NONE;
	if (!can_masquerade(skb, pkt))
		return SLUICE_DROP_SNAT_UNSUPPORTED;
	masquerade(pkt, cfg);
	return keep_port(pkt, cfg);
}

#endif
