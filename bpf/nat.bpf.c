// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connection tracking and masquerade. `nat` finds the packet's connection and translates what comes back
 * to a masqueraded one; `nat_commit`, after the firewall, writes the entry of a new connection and
 * translates what goes out.
 */
#include "lib/masquerade.h"
#include "lib/rewrite.h"

char LICENSE[] SEC("license") = "GPL";

/* Beside the drop reasons: not ours after all, the node's stack gets the packet as it came. */
#define TO_STACK SLUICE_DROP_SLOTS

/* Was the packet sent to the node's own address, from outside? Entry sets dst_endpoint for all others. */
static __always_inline bool sent_to_node(const struct sluice_packet *pkt)
{
	return pkt->hook == SLUICE_HOOK_UPLINK && !pkt->dst_endpoint;
}

/* The connection behind a masqueraded tuple. */
struct inside {
	struct sluice_addr ADDR_ON_STACK addr;	/* of the originator, with its port */
	__be16 port_be;
	struct ct_snapshot ct;
};

/*
 * From the outside's tuple, as the outside sends it, to the connection that it stands for; pkt->ct_key becomes
 * the main entry's key. NONE, TO_STACK, or a drop reason: the stack would reset a connection that is only busy.
 */
static __always_inline __u32 unmask(struct sluice_packet *pkt, const struct tuple *outside,
				    struct inside *inside)
{
	struct ct_snapshot *ct = &inside->ct;
	struct tuple tuple = *outside;
	enum ct_found found;

	ct_key_make(&pkt->ct_key, &tuple);
	found = ct_find(&pkt->ct_key, ct);
	if (found == CT_TORN)
		return SLUICE_DROP_CT_BUSY;
	if (found == CT_ABSENT || !(ct->flags & SLUICE_CT_ALIAS))
		return TO_STACK;
	addr_copy(&inside->addr, &ct->nat_addr);
	inside->port_be = ct->nat_port_be;
	tuple.dst = &inside->addr;
	tuple.dport_be = inside->port_be;
	if (tuple.proto == IPPROTO_ICMP)
		tuple.sport_be = inside->port_be;
	ct_key_make(&pkt->ct_key, &tuple);
	found = ct_find(&pkt->ct_key, ct);
	if (found == CT_TORN)
		return SLUICE_DROP_CT_BUSY;
	/* An alias that its connection gave up for another port lives on until it expires. */
	if (found == CT_ABSENT || !(ct->flags & SLUICE_CT_MASQUERADE) ||
	    ct->nat_port_be != outside->dport_be || ct_expired(ct, tuple.proto, pkt->now_ns))
		return TO_STACK;
	return SLUICE_DROP_NONE;
}

/* What the connection's entry means for the packet; `reply`: it runs against the original direction. */
static __always_inline void apply_entry(struct sluice_packet *pkt, const struct ct_snapshot *ct, bool reply)
{
	pkt->ct_seal = ct->seal;
	if (!reply && ct->flags & SLUICE_CT_MASQUERADE) {
		addr_copy(&pkt->nat_addr, &ct->nat_addr);
		pkt->nat_port_be = ct->nat_port_be;
		pkt->flags |= SLUICE_PKT_MASQUERADE;
		pkt->next = SLUICE_MODULE_NAT_COMMIT;
	}
	/* What the stack hands back it has translated already. */
	if (reply && ct->flags & SLUICE_CT_STACK && pkt->hook != SLUICE_HOOK_HOST)
		pkt->flags |= SLUICE_PKT_STACK;
	/* A SYN on an existing connection is judged again. */
	if (!(pkt->flags & SLUICE_PKT_TCP_SYN) && ct_admitted(ct))
		pkt->flags |= SLUICE_PKT_ADMITTED;
}

static __always_inline void established(struct sluice_packet *pkt, const struct ct_snapshot *ct, bool reply)
{
	pkt->state = SLUICE_STATE_ESTABLISHED;
	if (reply)
		pkt->flags |= SLUICE_PKT_REPLY;
	apply_entry(pkt, ct, reply);
	if (ct_touch(ct, pkt))
		alias_touch(ct, pkt);
}

/* ---- new connections ---------------------------------------------------------------------- */
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

static __always_inline __u32 new_connection(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	const struct sluice_config *cfg = config_get();

	pkt->next = SLUICE_MODULE_NAT_COMMIT;
	if (pkt->hook != SLUICE_HOOK_POD || pkt->flags & SLUICE_PKT_BRIDGED)
		return SLUICE_DROP_NONE;
	packet_route(pkt);
	if ((pkt->route.kind != SLUICE_ROUTE_WORLD && pkt->route.kind != SLUICE_ROUTE_NODE) || !cfg ||
	    addr_is_none(&cfg->node_ipv4))
		return SLUICE_DROP_NONE;
	if (!can_masquerade(skb, pkt))
		return SLUICE_DROP_SNAT_UNSUPPORTED;
	pkt->flags |= SLUICE_PKT_MASQUERADE;
	return SLUICE_DROP_NONE;
}

/* ---- packets of connections ----------------------------------------------------------------- */
static __always_inline __u32 reply_to_masqueraded(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	struct tuple outside = packet_tuple(pkt);
	struct inside inside;
	__u32 reason = unmask(pkt, &outside, &inside);

	if (reason)
		return reason;
	const struct translation tr = { false, addr_v4(&pkt->dst), addr_v4(&inside.addr), pkt->dport_be,
					inside.port_be };

	if (!rewrite(skb, pkt, &tr))
		return SLUICE_DROP_REWRITE_FAILED;
	addr_copy(&pkt->dst, &inside.addr);
	pkt->dport_be = inside.port_be;
	if (pkt->proto == IPPROTO_ICMP)
		pkt->sport_be = inside.port_be;
	pkt->flags |= SLUICE_PKT_TRANSLATED;
	established(pkt, &inside.ct, true);
	return SLUICE_DROP_NONE;
}

/* Another connection of the same tuple, in whichever direction, takes over the entry. A SYN that is only
 * repeated must keep its masquerade port. */
static __always_inline void take_over(struct sluice_packet *pkt, const struct ct_snapshot *ct, bool reply)
{
	pkt->flags |= SLUICE_PKT_CT_REPLACE;
	if (!reply && ct->flags & SLUICE_CT_MASQUERADE)
		pkt->nat_port_be = ct->nat_port_be;
}

/* A SYN opens a connection whatever conntrack has of its tuple: what is there is only looked for if there may be
 * a port to keep. (An alias's tuple has no pod in it.) */
static __always_inline __u32 open_connection(struct __sk_buff *skb, struct sluice_packet *pkt, bool from_high)
{
	__u32 reason = new_connection(skb, pkt);
	struct ct_snapshot ct;

	if (reason)
		return reason;
	if (!(pkt->flags & SLUICE_PKT_MASQUERADE)) {
		pkt->flags |= SLUICE_PKT_CT_REPLACE;
		return SLUICE_DROP_NONE;
	}
	switch (ct_find(&pkt->ct_key, &ct)) {
	case CT_TORN:
		return SLUICE_DROP_CT_BUSY;
	case CT_FOUND:
		if (!(ct.flags & SLUICE_CT_ALIAS))
			take_over(pkt, &ct, from_high != !!(ct.flags & SLUICE_CT_ORIGIN_HIGH));
		break;
	case CT_ABSENT:
		break;
	}
	return SLUICE_DROP_NONE;
}

static __always_inline __u32 track(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	struct tuple tuple = packet_tuple(pkt);
	bool from_high = ct_key_make(&pkt->ct_key, &tuple), reply;
	struct ct_snapshot ct;
	enum ct_found found;

	if (unlikely(pkt->flags & SLUICE_PKT_TCP_SYN))
		return open_connection(skb, pkt, from_high);
	found = ct_find(&pkt->ct_key, &ct);
	/* Dropped, not judged as new: a reply would be judged, and entered, the wrong way round. */
	if (unlikely(found == CT_TORN))
		return SLUICE_DROP_CT_BUSY;
	if (found == CT_ABSENT || ct.flags & SLUICE_CT_ALIAS)
		return new_connection(skb, pkt);
	reply = from_high != !!(ct.flags & SLUICE_CT_ORIGIN_HIGH);
	if (unlikely(ct_expired(&ct, pkt->proto, pkt->now_ns))) {
		take_over(pkt, &ct, reply);
		return new_connection(skb, pkt);
	}
	established(pkt, &ct, reply);
	return SLUICE_DROP_NONE;
}

/* ---- ICMP errors ------------------------------------------------------------------------------ */
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

/* An error to the node about what a masqueraded connection sent: translated back. */
static __always_inline __u32 related_masqueraded(struct __sk_buff *skb, struct sluice_packet *pkt,
						 struct quote *quote)
{
	const struct embedded *in = &quote->in;
	struct tuple outside = { &quote->dst, &quote->src, in->dport_be, in->sport_be, in->proto };
	struct inside inside;
	__u32 reason = unmask(pkt, &outside, &inside);

	if (reason)
		return reason;
	quote->sport_be = inside.port_be;
	if (in->proto == IPPROTO_ICMP)
		quote->dport_be = quote->sport_be;
	const struct translation tr = { false, in->src_be, addr_v4(&inside.addr), in->sport_be,
					quote->sport_be };

	if (!rewrite_error(skb, pkt, in, &tr))
		return SLUICE_DROP_REWRITE_FAILED;
	addr_copy(&quote->src, &inside.addr);
	addr_copy(&pkt->dst, &inside.addr);
	pkt->flags |= SLUICE_PKT_TRANSLATED;
	judge_as(pkt, quote, true);
	apply_entry(pkt, &inside.ct, true);
	return SLUICE_DROP_NONE;
}

/* An error about a connection that conntrack has under the quoted tuple. False: it has none such. */
static __always_inline bool related_tracked(struct sluice_packet *pkt, const struct quote *quote,
					    __u32 *reason)
{
	struct tuple tuple = { &quote->src, &quote->dst, quote->sport_be, quote->dport_be, quote->in.proto };
	bool from_high = ct_key_make(&pkt->ct_key, &tuple), forward;
	struct ct_snapshot ct;
	enum ct_found found = ct_find(&pkt->ct_key, &ct);

	if (unlikely(found == CT_TORN)) {
		*reason = SLUICE_DROP_CT_BUSY;
		return true;
	}
	if (found == CT_ABSENT || ct.flags & SLUICE_CT_ALIAS ||
	    ct_expired(&ct, quote->in.proto, pkt->now_ns))
		return false;
	forward = from_high == !!(ct.flags & SLUICE_CT_ORIGIN_HIGH);
	judge_as(pkt, quote, forward);
	/* The error runs against what it quotes. */
	apply_entry(pkt, &ct, forward);
	*reason = SLUICE_DROP_NONE;
	return true;
}

static __always_inline __u32 related(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	struct quote quote;
	__u32 reason;

	if (quote_read(skb, pkt, &quote)) {
		if (sent_to_node(pkt))
			return related_masqueraded(skb, pkt, &quote);
		if (related_tracked(pkt, &quote, &reason))
			return reason;
	}
	if (sent_to_node(pkt))
		return TO_STACK;
	/* The node's own connections are not tracked; its stack knows them. */
	packet_route(pkt);
	return pkt->route.kind == SLUICE_ROUTE_HOST ? SLUICE_DROP_NONE : SLUICE_DROP_CT_INVALID;
}

SEC("tc")
int nat(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	__u32 reason = SLUICE_DROP_NONE;

	if (!pkt)
		return TC_ACT_SHOT;
	count_module(SLUICE_MODULE_NAT);
	pkt->next = SLUICE_MODULE_DELIVER;
	/* Policy does not apply to the node's own traffic, so nothing needs to be known of it. */
	if (!(pkt->flags & SLUICE_PKT_OWN_NODE)) {
		if (unlikely(pkt->flags & SLUICE_PKT_ICMP_ERROR))
			reason = related(skb, pkt);
		else if (sent_to_node(pkt))
			reason = reply_to_masqueraded(skb, pkt);
		else
			reason = track(skb, pkt);
	}
	if (reason == TO_STACK)
		return to_stack();
	if (!reason) {
		if ((pkt->flags & (SLUICE_PKT_BRIDGED | SLUICE_PKT_STACK)) == SLUICE_PKT_BRIDGED)
			go_to(skb, SLUICE_MODULE_BRIDGE);
		else
			go_to(skb, SLUICE_MODULE_ROUTER);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	}
	return drop(skb, pkt, SLUICE_MODULE_NAT, reason);
}

/* ---- after the firewall -------------------------------------------------------------------------- */
/* Another CPU has just made the entry: its masquerade port counts. */
static __always_inline __u32 adopt(struct sluice_packet *pkt)
{
	bool masquerade = pkt->flags & SLUICE_PKT_MASQUERADE;
	struct ct_snapshot ct;

	if (ct_find(&pkt->ct_key, &ct) != CT_FOUND || ct.flags & SLUICE_CT_ALIAS ||
	    masquerade != !!(ct.flags & SLUICE_CT_MASQUERADE))
		return SLUICE_DROP_CT_BUSY;
	if (masquerade && ct.nat_port_be != pkt->nat_port_be) {
		port_release(pkt);
		addr_copy(&pkt->nat_addr, &ct.nat_addr);
		pkt->nat_port_be = ct.nat_port_be;
	}
	return SLUICE_DROP_NONE;
}

static __always_inline __u32 insert(struct sluice_packet *pkt)
{
	bool replace = pkt->flags & SLUICE_PKT_CT_REPLACE;
	struct sluice_ct_entry value = { .last_seen_ns = pkt->now_ns };
	__u32 progress = 0;
	long error;

	/* ct_key_make() put the lower one first; the packet's source is the originator. */
	if (!addr_equal(&pkt->ct_key.addr[0], &pkt->src) || pkt->ct_key.port_be[0] != pkt->sport_be)
		value.flags |= SLUICE_CT_ORIGIN_HIGH;
	if (pkt->hook == SLUICE_HOOK_HOST)
		value.flags |= SLUICE_CT_STACK;
	if (pkt->flags & SLUICE_PKT_MASQUERADE) {
		value.flags |= SLUICE_CT_MASQUERADE;
		value.nat_addr = pkt->nat_addr;
		value.nat_port_be = pkt->nat_port_be;
	}
	if (pkt->flags & SLUICE_PKT_TCP_RST)
		progress |= SLUICE_CT_CLOSED;
	if (pkt->flags & SLUICE_PKT_TCP_FIN)
		progress |= SLUICE_CT_FIN_ORIGIN;
	value.seal = sluice_ct_seal(sluice_ct_hash(&pkt->ct_key), &value.nat_addr, value.nat_port_be,
				    value.flags);
	value.stamp = sluice_ct_stamp(value.seal, pkt->stamp);
	value.progress = sluice_ct_progress_word(value.seal, progress);
	error = bpf_map_update_elem(&conntrack, &pkt->ct_key, &value, replace ? BPF_ANY : BPF_NOEXIST);
	if (!error)
		return SLUICE_DROP_NONE;
	return error == -EEXIST ? adopt(pkt) : ct_insert_failed(error);
}

static __always_inline __u32 commit(struct sluice_packet *pkt)
{
	const struct sluice_config *cfg = config_get();
	bool masquerade = pkt->flags & SLUICE_PKT_MASQUERADE;
	__u32 reason;

	if (!cfg)
		return SLUICE_DROP_MAP_MISSING;
	if (masquerade) {
		reason = port_reserve(pkt, &cfg->node_ipv4);
		if (reason)
			return reason;
	}
	reason = insert(pkt);
	if (reason && masquerade)
		port_release(pkt);
	return reason;
}

static __always_inline bool mask(struct __sk_buff *skb, struct sluice_packet *pkt)
{
	struct translation tr = { true, addr_v4(&pkt->src), addr_v4(&pkt->nat_addr), pkt->sport_be,
				  pkt->nat_port_be };
	struct embedded in;

	if (!(pkt->flags & SLUICE_PKT_ICMP_ERROR))
		return rewrite(skb, pkt, &tr);
	if (!embedded_parse(skb, pkt, &in))
		return false;
	tr.old_port_be = in.dport_be;
	return rewrite_error(skb, pkt, &in, &tr);
}

SEC("tc")
int nat_commit(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	__u32 reason = SLUICE_DROP_NONE;

	if (!pkt)
		return TC_ACT_SHOT;
	count_module(SLUICE_MODULE_NAT_COMMIT);
	if (pkt->state == SLUICE_STATE_NEW)
		reason = commit(pkt);
	if (!reason && pkt->flags & SLUICE_PKT_MASQUERADE && !mask(skb, pkt))
		reason = SLUICE_DROP_REWRITE_FAILED;
	if (!reason) {
		go_to(skb, SLUICE_MODULE_DELIVER);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	}
	return drop(skb, pkt, SLUICE_MODULE_NAT_COMMIT, reason);
}
