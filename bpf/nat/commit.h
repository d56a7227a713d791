/* SPDX-License-Identifier: GPL-2.0-only */
/* The entries of a connection that the firewall has admitted, and what it is to look like from now on. */
#ifndef SLUICE_NAT_COMMIT_H
#define SLUICE_NAT_COMMIT_H

#include "lib/masquerade.h"
#include "nat/established.h"

/* Beside the drop reasons: another connection that lives has the tuple. */
#define TAKEN (SLUICE_DROP_SLOTS + 3)
/* By how many ports a connection is tried whose tuple is taken. */
#define OWN_PORT_TRIES 4
#define OWN_PORT_MIN 1024

static __always_inline bool same_service(const struct sluice_packet *pkt, const struct ct_snapshot *ct)
{
	if (!(pkt->flags & SLUICE_PKT_SERVICE))
		return !(ct->nat.flags & SLUICE_CT_SERVICE);
	return ct->nat.flags & SLUICE_CT_SERVICE && addr_equal(&ct->nat.addr, &pkt->front_addr) &&
	       ct->nat.port_be == pkt->front_port_be && ct->nat.client_port_be == pkt->client_port_be;
}

/* Does an end remember the connection that was there before, which went another way? It would take the new one's SYN
 * for an old one's, since the originator chose its sequence numbers and timestamps for another destination. */
static __always_inline bool is_remembered(const struct sluice_packet *pkt, const struct ct_snapshot *ct)
{
	return pkt->proto == IPPROTO_TCP && sluice_ct_time_wait(ct_progress(ct)) && !same_service(pkt, ct) &&
	       !ct_expired(ct, pkt->proto, pkt->now_ns);
}

/* The tuple has an entry. NONE: it is this very connection's, which another CPU has just made, and its masquerade
 * address and port count; else why not. -EEXIST: it may be replaced. */
static __always_inline long resolve(struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	bool masquerade = pkt->flags & SLUICE_PKT_MASQUERADE;
	struct ct_snapshot ct;

	switch (ct_find(cfg, &pkt->ct_key, &ct)) {
	case CT_ABSENT:	/* gone meanwhile */
		return -EEXIST;
	case CT_TORN:
		return pkt->flags & SLUICE_PKT_TCP_SYN ? -EEXIST : SLUICE_DROP_CT_BUSY;
	case CT_FOUND:
		break;
	}
	if (ct.nat.flags & (SLUICE_CT_ALIAS | SLUICE_CT_FRONT))
		return SLUICE_DROP_CT_BUSY;
	if ((ct_closed(&ct) && pkt->flags & SLUICE_PKT_TCP_SYN) || ct_expired(&ct, pkt->proto, pkt->now_ns))
		return is_remembered(pkt, &ct) && pkt->ports_tried < OWN_PORT_TRIES ? TAKEN : -EEXIST;
	if (!same_service(pkt, &ct))
		return TAKEN;
	/* Whoever asked last gets the tuple: it was judged in this direction. */
	if (pkt->flags & SLUICE_PKT_ICMP_REQUEST && !(ct.nat.flags & SLUICE_CT_MASQUERADE))
		return -EEXIST;
	if (pkt->flags & SLUICE_PKT_TCP_SYN && !ct_outlives_syn(&ct, pkt->now_ns))
		return -EEXIST;
	if (masquerade != !!(ct.nat.flags & SLUICE_CT_MASQUERADE))
		return SLUICE_DROP_CT_BUSY;
	if (masquerade && (ct.nat.snat_port_be != pkt->nat_port_be ||
			   masquerade_number(ct.nat.flags) != pkt->masquerade_number)) {
		port_release(pkt, cfg);
		pkt->nat_port_be = ct.nat.snat_port_be;
		pkt->masquerade_number = masquerade_number(ct.nat.flags);
		masquerade_addr(&pkt->nat_addr, pkt->masquerade_number);
	}
	return SLUICE_DROP_NONE;
}

static __always_inline __u32 insert(struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	__u64 hash = sluice_ct_hash(&pkt->ct_key, cfg->conntrack_secret);
	struct sluice_ct_entry value = { .last_seen_ns = pkt->now_ns, .owner = ct_owner(pkt) };
	__u32 progress = 0;
	long error;

	/* ct_key_make() put the lower one first; the packet's source is the originator. */
	if (!addr_equal(&pkt->ct_key.addr[0], &pkt->src) || pkt->ct_key.port_be[0] != pkt->sport_be)
		value.nat.flags |= SLUICE_CT_ORIGIN_HIGH;
	if (pkt->hook == SLUICE_HOOK_HOST)
		value.nat.flags |= SLUICE_CT_STACK;
	if (pkt->hook == SLUICE_HOOK_HOST && pkt->flags & SLUICE_PKT_OWN_NODE)
		value.nat.flags |= SLUICE_CT_OWN_NODE;
	if (pkt->flags & SLUICE_PKT_MASQUERADE) {
		value.nat.flags |= SLUICE_CT_MASQUERADE;
		value.nat.flags |= pkt->masquerade_number << SLUICE_CT_NUMBER_SHIFT;
		value.nat.snat_port_be = pkt->nat_port_be;
	}
	if (pkt->flags & SLUICE_PKT_SERVICE) {
		value.nat.flags |= SLUICE_CT_SERVICE;
		value.nat.addr = pkt->front_addr;
		value.nat.port_be = pkt->front_port_be;
		value.nat.client_port_be = pkt->client_port_be;
	}
	if (pkt->flags & SLUICE_PKT_TCP_FIN)
		progress |= SLUICE_CT_FIN_ORIGIN;
	value.seal = sluice_ct_seal(hash, &value.nat);
	value.stamp = sluice_ct_stamp(value.seal, pkt->stamp);
	value.progress = sluice_ct_progress_word(value.seal, progress);
	error = ct_add(cfg, &pkt->ct_key, hash, &value, pkt->flags & SLUICE_PKT_TCP_SYN ? CT_ALIKE : CT_NOTHING);
	if (error == -EEXIST) {
		error = resolve(pkt, cfg);
		if (error >= 0)
			return error;
		error = ct_add(cfg, &pkt->ct_key, hash, &value, CT_ANYTHING);
	}
	return error ? SLUICE_DROP_CT_FULL : SLUICE_DROP_NONE;
}

static __always_inline __u32 insert_front(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	struct sluice_ct_nat ADDR_ON_STACK service = {
		.addr = pkt->front_addr, .port_be = pkt->front_port_be, .client_port_be = pkt->client_port_be };
	struct sluice_ct_entry value = { .last_seen_ns = pkt->now_ns, .owner = ct_owner(pkt) };
	struct tuple inside = packet_tuple(pkt);
	struct sluice_ct_key key;
	__u64 hash;

	front_make(&key, &value.nat, &service, &inside);
	hash = sluice_ct_hash(&key, cfg->conntrack_secret);
	value.seal = sluice_ct_seal(hash, &value.nat);
	value.progress = sluice_ct_progress_word(value.seal, 0);
	return ct_add(cfg, &key, hash, &value, CT_ANYTHING) ? SLUICE_DROP_CT_FULL : SLUICE_DROP_NONE;
}

/* The port by which the originator's last connection from this port to this Service went to this very backend; 0:
 * none. Else every one of them would use up another port for as long as it is remembered. */
static __always_inline __be16 port_before(const struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	const struct sluice_ct_nat ADDR_ON_STACK service = {
		.addr = pkt->front_addr, .port_be = pkt->front_port_be, .client_port_be = pkt->client_port_be };
	struct tuple inside = packet_tuple(pkt);
	struct sluice_ct_nat ADDR_ON_STACK wanted;
	struct sluice_ct_key key;
	struct ct_snapshot front;

	front_make(&key, &wanted, &service, &inside);
	if (ct_find(cfg, &key, &front) != CT_FOUND || !(front.nat.flags & SLUICE_CT_FRONT) ||
	    !addr_equal(&front.nat.addr, &pkt->dst) || front.nat.port_be != pkt->dport_be ||
	    front.nat.client_port_be == pkt->client_port_be)
		return 0;
	return front.nat.client_port_be;
}

/* The connection goes by another port of its own, as if to a Service. */
static __always_inline bool take_another_port(struct __sk_buff *skb, struct sluice_packet *pkt,
					      const struct sluice_config *cfg)
{
	__be16 port_be = 0;
	struct tuple tuple;

	if (!(pkt->flags & SLUICE_PKT_SERVICE)) {
		pkt->flags |= SLUICE_PKT_SERVICE;
		addr_copy(&pkt->front_addr, &pkt->dst);
		pkt->front_port_be = pkt->dport_be;
		pkt->client_port_be = pkt->sport_be;
	}
	if (pkt->ports_tried == 1)
		port_be = port_before(pkt, cfg);
	if (!port_be)
		port_be = bpf_htons(OWN_PORT_MIN + bpf_get_prandom_u32() % (65536 - OWN_PORT_MIN));
	if (!source_port_set(skb, pkt, port_be))
		return false;
	tuple = packet_tuple(pkt);
	ct_key_make(&pkt->ct_key, &tuple);
	return true;
}

static __always_inline __u32 commit(struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	bool masquerade = pkt->flags & SLUICE_PKT_MASQUERADE;
	__u32 reason = ct_budget(pkt, cfg);

	if (reason)
		return reason;
	if (masquerade) {
		reason = port_reserve(pkt, cfg);
		if (reason)
			return reason;
	}
	reason = insert(pkt, cfg);
	if (!reason && pkt->flags & SLUICE_PKT_SERVICE) {
		reason = insert_front(pkt, cfg);
		if (reason)
			ct_remove(cfg, &pkt->ct_key, sluice_ct_hash(&pkt->ct_key, cfg->conntrack_secret), 0);
	}
	if (reason && masquerade)
		port_release(pkt, cfg);
	return reason;
}

/* The program begins anew with another port: a loop here would be one around the search for a masquerade port. */
static __always_inline __u32 retry(struct __sk_buff *skb, struct sluice_packet *pkt, const struct sluice_config *cfg)
{
	if ((pkt->proto != IPPROTO_TCP && pkt->proto != IPPROTO_UDP) || pkt->ports_tried++ >= OWN_PORT_TRIES)
		return SLUICE_DROP_CT_BUSY;
	if (!take_another_port(skb, pkt, cfg))
		return SLUICE_DROP_REWRITE_FAILED;
	go_to(skb, SLUICE_MODULE_NAT_COMMIT);
	return SLUICE_DROP_TAIL_CALL_MISSING;
}

/* Puts nat_addr:nat_port_be in the source's place. */
static __always_inline bool mask(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	struct translation tr = { true, addr_v4(&pkt->src), addr_v4(&pkt->nat_addr), pkt->sport_be,
				  pkt->nat_port_be };
	struct embedded in;

	if (!(pkt->flags & SLUICE_PKT_ICMP_ERROR))
		return rewrite(skb, pkt, &tr);
	if (!embedded_parse(skb, pkt, &in))
		return false;
	tr.old_addr_be = in.dst_be;
	tr.old_port_be = in.dport_be;
	return rewrite_error(skb, pkt, &in, &tr);
}

static __always_inline bool translate(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	const struct translation tr = { false, addr_v4(&pkt->dst), addr_v4(&pkt->dst), pkt->dport_be,
					pkt->client_port_be };

	if (!mask(skb, pkt))
		return false;
	/* What an error quotes keeps the port: its owner never saw it, and ignores the error. */
	return !(pkt->flags & SLUICE_PKT_UNSERVICE) || pkt->flags & SLUICE_PKT_ICMP_ERROR ||
	       pkt->client_port_be == pkt->dport_be || rewrite(skb, pkt, &tr);
}

#endif
