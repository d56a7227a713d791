// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connection tracking, Services, masquerade. `nat` finds the packet's connection and translates what is known of it
 * to what policy sees; `nat_new` does so for a connection that is not known, and notes which known one the firewall has
 * admitted anew; `nat_commit`, after the firewall, writes the entries of a new connection and translates to what the
 * receiver is to see.
 */
#include "nat/commit.h"
#include "nat/open.h"
#include "nat/related.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline int go_on(struct __sk_buff *skb, struct sluice_packet *pkt, enum sluice_module module,
				 __u32 reason)
{
	if (!reason) {
		if ((pkt->flags & (SLUICE_PKT_BRIDGED | SLUICE_PKT_STACK)) == SLUICE_PKT_BRIDGED)
			go_to(skb, SLUICE_MODULE_BRIDGE);
		else
			go_to(skb, SLUICE_MODULE_ROUTER);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	}
	return drop(skb, pkt, module, reason);
}

static __always_inline __u32 find_connection(struct __sk_buff *skb, struct sluice_packet *pkt,
					     const struct sluice_config *cfg)
{
	__u32 reason;

	if (unlikely(pkt->flags & SLUICE_PKT_ICMP_ERROR))
		return related(skb, pkt, cfg);
	if (!(pkt->flags & SLUICE_PKT_BRIDGED) && sent_to_masquerade(pkt, cfg)) {
		reason = reply_to_masqueraded(skb, pkt, cfg);
		if (reason != TO_STACK)
			return reason;
	}
	return pkt->flags & SLUICE_PKT_OWN_NODE ? track_own_node(skb, pkt, cfg) : track(skb, pkt, cfg);
}

SEC("tc")
int nat(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	const struct sluice_config *cfg = config_get();
	__u32 reason;

	if (!pkt || !cfg)
		return TC_ACT_SHOT;
	count_module(pkt, SLUICE_MODULE_NAT);
	pkt->next = SLUICE_MODULE_DELIVER;
	reason = find_connection(skb, pkt, cfg);
	if (reason == TO_STACK)
		return to_stack(pkt);
	if (reason == TO_NEW) {
		pkt->ports_tried = 0;
		ct_reclaim(pkt, cfg);
		/* Nothing within the segment is a Service or leaves the cluster. */
		if (pkt->flags & SLUICE_PKT_BRIDGED) {
			struct tuple tuple = packet_tuple(pkt);

			if (leaves_entry(pkt))
				pkt->next = SLUICE_MODULE_NAT_COMMIT;
			/* The search for a connection may have left another key. */
			ct_key_make(&pkt->ct_key, &tuple);
			reason = SLUICE_DROP_NONE;
		} else {
			go_to(skb, SLUICE_MODULE_NAT_NEW);
			reason = SLUICE_DROP_TAIL_CALL_MISSING;
		}
	}
	return go_on(skb, pkt, SLUICE_MODULE_NAT, reason);
}

SEC("tc")
int nat_new(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	const struct sluice_config *cfg = config_get();
	__u32 reason;

	if (!pkt || !cfg)
		return TC_ACT_SHOT;
	count_module(pkt, SLUICE_MODULE_NAT_NEW);
	if (pkt->state != SLUICE_STATE_NEW) {
		admitted_anew(pkt, cfg);
		go_to_next(skb, pkt);
		return drop(skb, pkt, SLUICE_MODULE_NAT_NEW, SLUICE_DROP_TAIL_CALL_MISSING);
	}
	reason = open_connection(skb, pkt, cfg);
	if (reason == TO_STACK)
		return to_stack(pkt);
	if (reason == TO_REFUSE) {
		go_to(skb, SLUICE_MODULE_REFUSE);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	}
	return go_on(skb, pkt, SLUICE_MODULE_NAT_NEW, reason);
}

SEC("tc")
int nat_commit(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	const struct sluice_config *cfg = config_get();
	__u32 reason = SLUICE_DROP_NONE;

	if (!pkt || !cfg)
		return TC_ACT_SHOT;
	count_module(pkt, SLUICE_MODULE_NAT_COMMIT);
	if (pkt->state == SLUICE_STATE_NEW)
		reason = commit(pkt, cfg);
	if (unlikely(reason == TAKEN))
		reason = retry(skb, pkt, cfg);
	if (!reason && pkt->flags & (SLUICE_PKT_MASQUERADE | SLUICE_PKT_UNSERVICE) && !translate(skb, pkt))
		reason = SLUICE_DROP_REWRITE_FAILED;
	if (!reason) {
		go_to(skb, SLUICE_MODULE_DELIVER);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	}
	return drop(skb, pkt, SLUICE_MODULE_NAT_COMMIT, reason);
}
