/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets of connections that conntrack has. */
#ifndef SLUICE_NAT_ESTABLISHED_H
#define SLUICE_NAT_ESTABLISHED_H

#include "lib/masquerade.h"
#include "lib/rewrite.h"
#include "lib/service.h"

/* Beside the drop reasons: */
#define TO_STACK SLUICE_DROP_SLOTS	/* not ours after all, the node's stack gets the packet as it came */
#define TO_NEW (SLUICE_DROP_SLOTS + 1)	/* no connection of conntrack's */

/* Was the packet sent to an address of the node's or of a Service, from outside? Entry sets dst_endpoint for pods. */
static __always_inline bool sent_to_node(const struct sluice_packet *pkt)
{
	return pkt->hook == SLUICE_HOOK_UPLINK && !pkt->dst_endpoint;
}

/* To an address that masqueraded connections may have? From outside that is any, and the alias tells. A backend answers
 * the node, too, wherever it is. */
static __always_inline bool sent_to_snat(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	return sent_to_node(pkt) || (pkt->hook != SLUICE_HOOK_HOST && addr_equal(&pkt->dst, &cfg->node_ipv4)) ||
	       addr_equal(&pkt->dst, &cfg->local_snat_ipv4);
}

/* Could it be for a masqueraded connection? */
static __always_inline bool sent_to_masquerade(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	return (pkt->proto == IPPROTO_ICMP ?
			pkt->hook == SLUICE_HOOK_UPLINK && !(pkt->flags & SLUICE_PKT_ICMP_REQUEST) :
			masquerade_port(cfg, pkt->dport_be)) &&
	       sent_to_snat(pkt, cfg);
}

/* What the connection's translation means for the packet; `reply`: it runs against the original direction. */
static __always_inline void apply_translation(struct sluice_packet *pkt, const struct ct_snapshot *ct, bool reply)
{
	if (!reply && ct->nat.flags & SLUICE_CT_MASQUERADE) {
		masquerade_addr(&pkt->nat_addr, masquerade_number(ct->nat.flags));
		pkt->nat_port_be = ct->nat.snat_port_be;
		pkt->flags |= SLUICE_PKT_MASQUERADE;
		pkt->next = SLUICE_MODULE_NAT_COMMIT;
	}
	if (reply && ct->nat.flags & SLUICE_CT_SERVICE) {
		addr_copy(&pkt->nat_addr, &ct->nat.addr);
		pkt->nat_port_be = ct->nat.port_be;
		pkt->client_port_be = ct->nat.client_port_be;
		pkt->flags |= SLUICE_PKT_UNSERVICE;
		pkt->next = SLUICE_MODULE_NAT_COMMIT;
	}
	if (ct->nat.flags & SLUICE_CT_OWN_NODE)
		pkt->flags |= SLUICE_PKT_OWN_NODE;
	/* What the stack hands back it has translated already. */
	if (reply && ct->nat.flags & SLUICE_CT_STACK && pkt->hook != SLUICE_HOOK_HOST)
		pkt->flags |= SLUICE_PKT_STACK;
}

static __always_inline void apply_entry(struct sluice_packet *pkt, const struct ct_snapshot *ct, bool reply)
{
	pkt->ct_seal = ct->seal;
	pkt->ct_place = ct->place;
	if (unlikely(ct->nat.flags & ~SLUICE_CT_ORIGIN_HIGH))
		apply_translation(pkt, ct, reply);
	/* A SYN on an existing connection is judged again. */
	if (!(pkt->flags & SLUICE_PKT_TCP_SYN) && ct_admitted(ct))
		pkt->flags |= SLUICE_PKT_ADMITTED;
}

/* The connection goes on by a packet that policy admits, in all its entries. */
static __always_inline void renew(struct sluice_packet *pkt, const struct sluice_config *cfg,
				  const struct ct_snapshot *ct)
{
	if (likely(!ct_touch(ct, pkt)))
		return;
	if (ct->nat.flags & SLUICE_CT_MASQUERADE)
		alias_touch(cfg, ct, pkt);
	if (ct->nat.flags & SLUICE_CT_SERVICE)
		front_touch(cfg, ct, pkt);
}

static __always_inline void established(struct sluice_packet *pkt, const struct sluice_config *cfg,
					const struct ct_snapshot *ct, bool reply)
{
	pkt->state = SLUICE_STATE_ESTABLISHED;
	if (reply)
		pkt->flags |= SLUICE_PKT_REPLY;
	apply_entry(pkt, ct, reply);
	/* Else the firewall is asked first: what it denies keeps nothing alive. */
	if (likely(pkt->flags & SLUICE_PKT_ADMITTED))
		renew(pkt, cfg, ct);
}

/* The firewall has admitted the connection anew. */
static __always_inline void admitted_anew(struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct ct_snapshot ct;

	if (!ct_find_again(cfg, pkt, &ct))
		return;
	ct_restamp(&ct, pkt);
	/* A SYN and an ICMP error are no sign of life. */
	if (pkt->state != SLUICE_STATE_ESTABLISHED)
		return;
	if (!(pkt->flags & SLUICE_PKT_TCP_SYN))
		renew(pkt, cfg, &ct);
	else if (!(pkt->flags & SLUICE_PKT_REPLY))
		ct_ask(&ct, pkt->now_ns);
}

static __always_inline bool destination_set(struct __sk_buff *skb, struct sluice_packet *pkt,
					    const struct sluice_addr *addr, __be16 port_be)
{
	const struct translation tr = { false, addr_v4(&pkt->dst), addr_v4(addr), pkt->dport_be, port_be };

	if (!rewrite(skb, pkt, &tr))
		return false;
	addr_copy(&pkt->dst, addr);
	pkt->dport_be = port_be;
	if (pkt->proto == IPPROTO_ICMP)
		pkt->sport_be = port_be;
	pkt->flags = (pkt->flags | SLUICE_PKT_TRANSLATED) & ~SLUICE_PKT_ROUTED;
	return true;
}

static __always_inline bool source_port_set(struct __sk_buff *skb, struct sluice_packet *pkt, __be16 port_be)
{
	const struct translation tr = { true, addr_v4(&pkt->src), addr_v4(&pkt->src), pkt->sport_be, port_be };

	if (!rewrite(skb, pkt, &tr))
		return false;
	pkt->sport_be = port_be;
	return true;
}

/* ---- the connection behind another view of it ---------------------------------------------- */
struct behind {
	struct sluice_addr ADDR_ON_STACK addr;	/* what stands in the view's place, with its port */
	__be16 port_be;
	__be16 client_port_be;	/* of a front: the originator's, as the backend sees it */
	struct ct_snapshot ct;	/* of the main entry */
};

/*
 * From the outside's tuple, as the outside sends it, to the connection that it stands for; pkt->ct_key becomes
 * the main entry's key. NONE, TO_STACK, or a drop reason: the stack would reset a connection that is only busy.
 */
static __always_inline __u32 unmask(struct sluice_packet *pkt, const struct sluice_config *cfg,
				    const struct tuple *outside, struct behind *behind)
{
	struct sluice_addr ADDR_ON_STACK masquerade = {};
	struct ct_snapshot *ct = &behind->ct;
	struct tuple tuple = *outside;
	enum ct_found found;

	ct_key_make(&pkt->ct_key, &tuple);
	found = ct_find(cfg, &pkt->ct_key, ct);
	if (found == CT_TORN)
		return SLUICE_DROP_CT_BUSY;
	if (found == CT_ABSENT || !(ct->nat.flags & SLUICE_CT_ALIAS))
		return TO_STACK;
	addr_copy(&behind->addr, &ct->nat.addr);
	behind->port_be = ct->nat.port_be;
	tuple.dst = &behind->addr;
	tuple.dport_be = behind->port_be;
	if (tuple.proto == IPPROTO_ICMP)
		tuple.sport_be = behind->port_be;
	ct_key_make(&pkt->ct_key, &tuple);
	found = ct_find(cfg, &pkt->ct_key, ct);
	if (found == CT_TORN)
		return SLUICE_DROP_CT_BUSY;
	/* An alias that its connection gave up for another port or address lives on until it expires. */
	if (found == CT_ABSENT || !(ct->nat.flags & SLUICE_CT_MASQUERADE) ||
	    ct->nat.snat_port_be != outside->dport_be || ct_expired(ct, tuple.proto, pkt->now_ns))
		return TO_STACK;
	masquerade_addr(&masquerade, masquerade_number(ct->nat.flags));
	return addr_equal(&masquerade, outside->dst) ? SLUICE_DROP_NONE : TO_STACK;
}

/* From the originator's tuple, of which `front` is the entry, to the connection that it stands for. NONE, TO_NEW or a
 * drop reason. */
static __always_inline __u32 behind_front(struct sluice_packet *pkt, const struct sluice_config *cfg,
					  const struct tuple *seen, const struct ct_snapshot *front,
					  struct behind *behind)
{
	struct ct_snapshot *ct = &behind->ct;
	struct tuple tuple = *seen;
	enum ct_found found;

	addr_copy(&behind->addr, &front->nat.addr);
	behind->port_be = front->nat.port_be;
	behind->client_port_be = front->nat.client_port_be;
	tuple.dst = &behind->addr;
	tuple.dport_be = behind->port_be;
	tuple.sport_be = behind->client_port_be;
	ct_key_make(&pkt->ct_key, &tuple);
	found = ct_find(cfg, &pkt->ct_key, ct);
	if (found == CT_TORN)
		return SLUICE_DROP_CT_BUSY;
	/* A front may outlive its connection, whose tuple another one has now. */
	if (found == CT_ABSENT || !(ct->nat.flags & SLUICE_CT_SERVICE) || !addr_equal(&ct->nat.addr, seen->dst) ||
	    ct->nat.port_be != seen->dport_be || ct->nat.client_port_be != seen->sport_be ||
	    ct_expired(ct, tuple.proto, pkt->now_ns))
		return TO_NEW;
	return SLUICE_DROP_NONE;
}

static __always_inline __u32 reply_to_masqueraded(struct __sk_buff *skb, struct sluice_packet *pkt,
						  const struct sluice_config *cfg)
{
	struct tuple outside = packet_tuple(pkt);
	struct behind behind;
	__u32 reason = unmask(pkt, cfg, &outside, &behind);

	if (reason)
		return reason;
	if (!destination_set(skb, pkt, &behind.addr, behind.port_be))
		return SLUICE_DROP_REWRITE_FAILED;
	established(pkt, cfg, &behind.ct, true);
	return SLUICE_DROP_NONE;
}

static __always_inline __u32 to_backend(struct __sk_buff *skb, struct sluice_packet *pkt,
					const struct sluice_config *cfg, const struct ct_snapshot *front)
{
	struct tuple seen = packet_tuple(pkt);
	struct behind behind;
	__u32 reason = behind_front(pkt, cfg, &seen, front, &behind);

	if (reason)
		return reason;
	if (pkt->flags & SLUICE_PKT_TCP_SYN && !ct_outlives_syn(&behind.ct, pkt->now_ns))
		return TO_NEW;
	if (!destination_set(skb, pkt, &behind.addr, behind.port_be) ||
	    (behind.client_port_be != pkt->sport_be && !source_port_set(skb, pkt, behind.client_port_be)))
		return SLUICE_DROP_REWRITE_FAILED;
	established(pkt, cfg, &behind.ct, false);
	return SLUICE_DROP_NONE;
}

/* Or for an address of Services, which leads nowhere else. */
static __always_inline bool is_for_service(struct sluice_packet *pkt)
{
	struct sluice_service service;

	pkt->dst_endpoint = local_get(&pkt->dst);
	return !pkt->dst_endpoint && (service_find(pkt, &service) || for_service_address(pkt));
}

/* Policy does not apply to the node's own traffic, so nothing needs to be known of it but whether it is to a Service,
 * or a backend's answer. */
static __always_inline __u32 track_own_node(struct __sk_buff *skb, struct sluice_packet *pkt,
					    const struct sluice_config *cfg)
{
	struct tuple tuple = packet_tuple(pkt);
	bool from_high = ct_key_make(&pkt->ct_key, &tuple);
	__u32 reason = TO_NEW;
	struct ct_snapshot ct;

	switch (ct_find(cfg, &pkt->ct_key, &ct)) {
	case CT_TORN:
		return SLUICE_DROP_CT_BUSY;
	case CT_FOUND:
		if (ct.nat.flags & SLUICE_CT_FRONT) {
			reason = to_backend(skb, pkt, cfg, &ct);
			break;
		}
		if (!(ct.nat.flags & SLUICE_CT_SERVICE) || from_high == !!(ct.nat.flags & SLUICE_CT_ORIGIN_HIGH) ||
		    ct_expired(&ct, pkt->proto, pkt->now_ns))
			break;
		established(pkt, cfg, &ct, true);
		return SLUICE_DROP_NONE;
	case CT_ABSENT:
		break;
	}
	if (reason == TO_NEW && !is_for_service(pkt))
		return SLUICE_DROP_NONE;
	return reason;
}

static __always_inline __u32 track(struct __sk_buff *skb, struct sluice_packet *pkt,
				   const struct sluice_config *cfg)
{
	struct tuple tuple = packet_tuple(pkt);
	bool from_high = ct_key_make(&pkt->ct_key, &tuple), reply;
	struct ct_snapshot ct;
	enum ct_found found;

	found = ct_find(cfg, &pkt->ct_key, &ct);
	/* Dropped, not judged as new: a reply would be judged, and entered, the wrong way round. A SYN is none. */
	if (unlikely(found == CT_TORN))
		return pkt->flags & SLUICE_PKT_TCP_SYN ? TO_NEW : SLUICE_DROP_CT_BUSY;
	if (unlikely(found == CT_ABSENT))
		return TO_NEW;
	reply = from_high != !!(ct.nat.flags & SLUICE_CT_ORIGIN_HIGH);
	if (unlikely(ct.nat.flags & (SLUICE_CT_ALIAS | SLUICE_CT_SERVICE | SLUICE_CT_FRONT | SLUICE_CT_OWN_NODE))) {
		if (ct.nat.flags & SLUICE_CT_ALIAS)
			return TO_NEW;
		if (!reply && ct.nat.flags & SLUICE_CT_SERVICE) {
			/* The tuple is the other's, which goes by the Service. */
			pkt->ct_key.side = SLUICE_CT_OWN_SIDE;
			found = ct_find(cfg, &pkt->ct_key, &ct);
			if (found == CT_TORN)
				return pkt->flags & SLUICE_PKT_TCP_SYN ? TO_NEW : SLUICE_DROP_CT_BUSY;
			if (found == CT_ABSENT)
				return TO_NEW;
		}
		if (ct.nat.flags & SLUICE_CT_FRONT)
			return to_backend(skb, pkt, cfg, &ct);
		/* Answers to the node's connections by Services go to its masquerade port; the node's own port has
		 * another one, to the backend itself, of which nothing is known here. */
		if (reply && ct.nat.flags & SLUICE_CT_OWN_NODE)
			return TO_NEW;
	}
	if (unlikely(ct_expired(&ct, pkt->proto, pkt->now_ns)))
		return TO_NEW;
	/* What asks, and runs against the connection's direction, is no reply, and judged in its own. */
	if (unlikely(pkt->flags & (SLUICE_PKT_TCP_SYN | SLUICE_PKT_ICMP_REQUEST)) &&
	    (reply || (pkt->flags & SLUICE_PKT_TCP_SYN && !ct_outlives_syn(&ct, pkt->now_ns))))
		return TO_NEW;
	established(pkt, cfg, &ct, reply);
	return SLUICE_DROP_NONE;
}

#endif
