/* SPDX-License-Identifier: GPL-2.0-only */
/* ICMP errors about connections that conntrack has. */
#ifndef SLUICE_NAT_RELATED_H
#define SLUICE_NAT_RELATED_H

#include "nat/established.h"

/* The quoted tuple, in the form that conntrack knows. */
struct quote {
	struct sluice_addr ADDR_ON_STACK src;
	struct sluice_addr ADDR_ON_STACK dst;
	__be16 sport_be;
	__be16 dport_be;
	struct embedded in;
};

/* Reads the quoted header. An error goes to whom the quoted packet came from; and a pod may speak of what it
 * received only, or it could end others' connections. */
static __always_inline bool quote_read(struct __sk_buff *skb, const struct sluice_packet *pkt,
				       struct quote *quote)
{
	struct embedded *in = &quote->in;

	if (!embedded_parse(skb, pkt, in) || in->src_be != addr_v4(&pkt->dst) ||
	    (pkt->hook == SLUICE_HOOK_POD && in->dst_be != addr_v4(&pkt->src)))
		return false;
	addr_set_v4(&quote->src, in->src_be);
	addr_set_v4(&quote->dst, in->dst_be);
	quote->sport_be = in->sport_be;
	quote->dport_be = in->dport_be;
	return true;
}

static __always_inline void judge_as(struct sluice_packet *pkt, const struct quote *quote, bool forward)
{
	pkt->state = SLUICE_STATE_RELATED;
	addr_copy(&pkt->related_src, forward ? &quote->src : &quote->dst);
	addr_copy(&pkt->related_dst, forward ? &quote->dst : &quote->src);
	pkt->related_sport_be = forward ? quote->sport_be : quote->dport_be;
	pkt->related_dport_be = forward ? quote->dport_be : quote->sport_be;
	pkt->related_proto = quote->in.proto;
	pkt->related_src_endpoint = local_get(&pkt->related_src);
	pkt->related_dst_endpoint = local_get(&pkt->related_dst);
}

/* Whom the error goes to, and with it the source of what is quoted, is somebody else inside. */
static __always_inline bool quoted_source_set(struct __sk_buff *skb, struct sluice_packet *pkt, struct quote *quote,
					      const struct behind *behind)
{
	const struct translation tr = { false, quote->in.src_be, addr_v4(&behind->addr), quote->in.sport_be,
					behind->port_be };

	quote->sport_be = behind->port_be;
	if (quote->in.proto == IPPROTO_ICMP)
		quote->dport_be = quote->sport_be;
	if (!rewrite_error(skb, pkt, &quote->in, &tr))
		return false;
	addr_copy(&quote->src, &behind->addr);
	addr_copy(&pkt->dst, &behind->addr);
	pkt->flags |= SLUICE_PKT_TRANSLATED;
	return true;
}

/* An error to the node about what a masqueraded connection sent: translated back. */
static __always_inline __u32 related_masqueraded(struct __sk_buff *skb, struct sluice_packet *pkt,
						 const struct sluice_config *cfg, struct quote *quote)
{
	const struct embedded *in = &quote->in;
	struct tuple outside = { &quote->dst, &quote->src, in->dport_be, in->sport_be, in->proto };
	struct behind behind;
	__u32 reason = unmask(pkt, cfg, &outside, &behind);

	if (reason)
		return reason;
	if (!quoted_source_set(skb, pkt, quote, &behind))
		return SLUICE_DROP_REWRITE_FAILED;
	judge_as(pkt, quote, true);
	apply_entry(pkt, &behind.ct, true);
	return SLUICE_DROP_NONE;
}

/* An error to a Service about what the originator got from it: for the backend. */
static __always_inline __u32 related_to_backend(struct __sk_buff *skb, struct sluice_packet *pkt,
						const struct sluice_config *cfg, struct quote *quote,
						const struct ct_snapshot *front)
{
	struct tuple seen = { &quote->dst, &quote->src, quote->dport_be, quote->sport_be, quote->in.proto };
	struct behind behind;
	__u32 reason = behind_front(pkt, cfg, &seen, front, &behind);

	if (reason)
		return reason == TO_NEW ? SLUICE_DROP_CT_INVALID : reason;
	if (!quoted_source_set(skb, pkt, quote, &behind))
		return SLUICE_DROP_REWRITE_FAILED;
	judge_as(pkt, quote, false);
	apply_entry(pkt, &behind.ct, false);
	return SLUICE_DROP_NONE;
}

/* An error about a connection that conntrack has under the quoted tuple. False: it has none such. */
static __always_inline bool related_tracked(struct __sk_buff *skb, struct sluice_packet *pkt,
					    const struct sluice_config *cfg, struct quote *quote, __u32 *reason)
{
	struct tuple tuple = { &quote->src, &quote->dst, quote->sport_be, quote->dport_be, quote->in.proto };
	bool from_high = ct_key_make(&pkt->ct_key, &tuple), forward;
	struct ct_snapshot ct;
	enum ct_found found = ct_find(cfg, &pkt->ct_key, &ct);

	if (unlikely(found == CT_TORN)) {
		*reason = SLUICE_DROP_CT_BUSY;
		return true;
	}
	if (found == CT_ABSENT || ct.nat.flags & SLUICE_CT_ALIAS)
		return false;
	if (ct.nat.flags & SLUICE_CT_FRONT) {
		*reason = related_to_backend(skb, pkt, cfg, quote, &ct);
		return true;
	}
	if (ct_expired(&ct, quote->in.proto, pkt->now_ns))
		return false;
	forward = from_high == !!(ct.nat.flags & SLUICE_CT_ORIGIN_HIGH);
	judge_as(pkt, quote, forward);
	/* The error runs against what it quotes. */
	apply_entry(pkt, &ct, forward);
	*reason = SLUICE_DROP_NONE;
	return true;
}

static __always_inline __u32 related(struct __sk_buff *skb, struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct quote quote;
	__u32 reason;

	/* The node's own connections, but to Services, are not tracked. */
	if (pkt->flags & SLUICE_PKT_OWN_NODE && !sent_to_snat(pkt, cfg))
		return SLUICE_DROP_NONE;
	if (!quote_read(skb, pkt, &quote))
		return sent_to_node(pkt) ? TO_STACK : SLUICE_DROP_CT_INVALID;
	if (sent_to_snat(pkt, cfg)) {
		reason = related_masqueraded(skb, pkt, cfg, &quote);
		if (reason != TO_STACK)
			return reason;
	}
	if (related_tracked(skb, pkt, cfg, &quote, &reason))
		return reason;
	if (sent_to_node(pkt))
		return TO_STACK;
	/* The node's own connections are not tracked; its stack knows them. Of a pod's errors only those come here that are
	 * about what the node sent to that very pod. */
	packet_route(pkt);
	return pkt->route.kind == SLUICE_ROUTE_HOST ? SLUICE_DROP_NONE : SLUICE_DROP_CT_INVALID;
}

#endif
