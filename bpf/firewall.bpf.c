// SPDX-License-Identifier: GPL-2.0-only
/*
 * One generation of the NetworkPolicies. Each generation is this program with its own constants and its own
 * array `generation`; judged are the source's egress and the destination's ingress, of the connection's
 * original direction, in one invocation.
 */
#include "lib/conntrack.h"
#include "lib/peer_class.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 generation_number = 0;
const volatile __u32 generation_slot = 0;	/* of struct sluice_peer and generation_stats */
/* Whether the rules have ipBlocks, ports, port tables and default rows at all: if not, the verifier removes what asks for
 * them. */
const volatile __u8 uses_blocks = 0;
const volatile __u8 uses_ports = 0;
const volatile __u8 uses_port_tables = 0;
const volatile __u8 uses_default_rows = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLUICE_MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, struct sluice_policy);
} generation SEC(".maps");

/*
 * A connection in its original direction. Copied and not pointed to: with pointers into the packet context, the
 * verifier would walk all that follows once for each of the three ways to fill it in.
 */
struct connection {
	struct sluice_addr ADDR_ON_STACK src;
	struct sluice_addr ADDR_ON_STACK dst;
	__u32 src_endpoint;
	__u32 dst_endpoint;
	__be16 dport_be;
	__u8 proto;
};

static __always_inline struct connection original(const struct sluice_packet *pkt)
{
	if (pkt->state == SLUICE_STATE_RELATED)
		return (struct connection){ pkt->related_src, pkt->related_dst,
					    pkt->related_src_endpoint, pkt->related_dst_endpoint,
					    pkt->related_dport_be, pkt->related_proto };
	if ((pkt->flags & (SLUICE_PKT_REPLY | SLUICE_PKT_BY_ITSELF)) == SLUICE_PKT_REPLY)
		return (struct connection){ pkt->dst, pkt->src, pkt->dst_endpoint, pkt->src_endpoint,
					    pkt->sport_be, pkt->proto };
	return (struct connection){ pkt->src, pkt->dst, pkt->src_endpoint, pkt->dst_endpoint,
				    pkt->dport_be, pkt->proto };
}

#define SLOT (generation_slot & (SLUICE_GENERATION_SLOTS - 1))

static __always_inline __u32 class_by_address(const struct sluice_addr *peer)
{
	const struct sluice_peer *found = bpf_map_lookup_elem(&peers, peer);
	__u64 none = sluice_peer_bind(peer, 0);
	__u32 class;

	if (!found && uses_blocks) {
		struct sluice_route_key key = { .prefix_len = 128, .addr = *peer };
		const struct sluice_peer_block *block = bpf_map_lookup_elem(&peer_blocks, &key);

		return block ? block->peer_class[SLOT] : 0;
	}
	if (!found)
		return 0;
	class = peer_class(found, SLOT, none);
	if (class != SLUICE_NO_CLASS)
		return class;
	/* The element went to another address meanwhile. The next lookup does not meet it again. */
	found = bpf_map_lookup_elem(&peers, peer);
	return found ? peer_class(found, SLOT, none) : SLUICE_NO_CLASS;
}

/* A pod of this node carries its class. Its policy is looked up once more when it is its turn: a pointer kept
 * until then would make the verifier walk that once for each way to have it or not. */
static __always_inline __u32 class_of(const struct sluice_addr *peer, __u32 endpoint)
{
	const volatile struct sluice_policy *policy;
	__u32 peer_class;

	if (endpoint) {
		policy = bpf_map_lookup_elem(&generation, &endpoint);
		if (policy) {
			peer_class = policy->own.peer_class;
			if (!(peer_class ^ ~policy->own.inverted))
				return peer_class;
		}
	}
	return class_by_address(peer);
}

/* The class of the run if it has the port, else 0. Without a branch, whose ways the verifier would walk each. */
static __always_inline __u32 class_in_run(const struct sluice_port_run *run, __u32 port)
{
	__s64 left = (__s64)run->more - (__u32)(port - run->first);

	/* The compiler must not know what it is, nor what it was: else it makes a branch of the sign. */
	asm volatile("" : "+r"(left));
	left >>= 63;
	asm volatile("" : "+r"(left));
	return run->port_class & ~left;
}

static __always_inline __u32 class_in_runs(const struct sluice_port_run *runs, __u8 proto, __be16 port_be)
{
	const __u32 port = (__u32)proto << 16 | bpf_ntohs(port_be);
	__u32 port_class = 0;

#pragma unroll
	for (int i = 0; i < SLUICE_PORT_RUNS; i++)
		port_class |= class_in_run(&runs[i], port);
	return port_class;
}

static __always_inline __u32 class_in_table(__u32 table, __u8 proto, __be16 port_be)
{
	struct sluice_port_key key = {
		.prefix_len = SLUICE_PORT_KEY_BITS,
		.table_be = bpf_htonl(table),
		.proto = proto,
	};
	const __u32 *found;

	/* Other protocols have no ports that a rule could name. */
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP)
		__builtin_memcpy(key.port_be, &port_be, sizeof(port_be));
	found = bpf_map_lookup_elem(&port_classes, &key);
	return found ? *found : 0;
}

static __always_inline bool admits(const struct sluice_policy *policy, enum sluice_direction direction,
				   const struct connection *conn)
{
	struct sluice_row_key key = { .table = policy->table[direction] };
	const struct sluice_row *row;
	__u32 port = 0;

	key.peer_class = direction == SLUICE_EGRESS ? class_of(&conn->dst, conn->dst_endpoint) :
						      class_of(&conn->src, conn->src_endpoint);
	if (uses_port_tables && policy->ports[direction])
		port = class_in_table(policy->ports[direction], conn->proto, conn->dport_be);
	else if (uses_ports)
		port = class_in_runs(policy->port_runs[direction], conn->proto, conn->dport_be);
	key.page = port / SLUICE_ROW_BITS;
	row = bpf_map_lookup_elem(&tables, &key);
	if (!row && uses_default_rows) {
		key.peer_class = SLUICE_NO_CLASS;
		row = bpf_map_lookup_elem(&tables, &key);
	}
	port %= SLUICE_ROW_BITS;
	return row && (row->bits[port / 64] >> (port % 64)) & 1;
}

static __always_inline __u32 judge(const struct connection *conn)
{
	const struct sluice_policy *policy;
	__u32 id;

	/* A pod always reaches itself. */
	if (conn->src_endpoint == conn->dst_endpoint && conn->src_endpoint)
		return SLUICE_DROP_NONE;
	id = conn->src_endpoint;
	if (id) {
		policy = bpf_map_lookup_elem(&generation, &id);
		if (!policy || !(policy->flags & SLUICE_POLICY_VALID))
			return SLUICE_DROP_POLICY_MISSING;
		if (policy->flags & SLUICE_POLICY_ISOLATED_EGRESS &&
		    !admits(policy, SLUICE_EGRESS, conn))
			return SLUICE_DROP_POLICY_EGRESS;
	}
	id = conn->dst_endpoint;
	if (id) {
		policy = bpf_map_lookup_elem(&generation, &id);
		if (!policy || !(policy->flags & SLUICE_POLICY_VALID))
			return SLUICE_DROP_POLICY_MISSING;
		if (policy->flags & SLUICE_POLICY_ISOLATED_INGRESS &&
		    !admits(policy, SLUICE_INGRESS, conn))
			return SLUICE_DROP_POLICY_INGRESS;
	}
	return SLUICE_DROP_NONE;
}

/* 1 or 0, without a branch, each side of which the verifier would walk. */
static __always_inline __u64 is_equal(__u32 a, __u32 b)
{
	__u64 differ = a ^ b;

	asm volatile("" : "+r"(differ));
	return (differ - 1) >> 63;
}

static __always_inline void count_verdict(const struct sluice_packet *pkt, __u32 reason)
{
	__u32 slot = generation_slot;
	struct sluice_generation_stats *st = bpf_map_lookup_elem(&generation_stats, &slot);

	if (!st)
		return;
	st->judged++;
	st->rejudged += 1 - is_equal(pkt->state, SLUICE_STATE_NEW);
	st->allowed += is_equal(reason, SLUICE_DROP_NONE);
	st->denied_egress += is_equal(reason, SLUICE_DROP_POLICY_EGRESS);
	st->denied_ingress += is_equal(reason, SLUICE_DROP_POLICY_INGRESS);
}

/*
 * The same packet, read after `stamp`: every rule is found by what is read through this pointer, and a CPU
 * that reorders loads (arm64) still keeps those whose address depends on another. eBPF's load-acquire is
 * newer than the kernels that we load on.
 */
static __always_inline struct sluice_packet *packet_after(struct sluice_packet *pkt,
							  __u64 stamp __attribute__((unused)))
{
#ifdef __bpf__	/* in user space (tests/fuzz) nothing runs beside it */
	asm volatile("%[zero] &= 0\n"
		     "%[pkt] += %[zero]"
		     : [pkt] "+r"(pkt), [zero] "+r"(stamp));
#endif
	return pkt;
}

/*
 * The connection is denied, but its reply may be a packet that policy admits by itself: its sender may speak to its receiver.
 * TCP and ICMP tell what begins a connection; of the others, this runs between the addresses that policy sees only if
 * nothing is translated. No entry is made for it: else the denied end could speak on, as if to reply.
 */
static __always_inline bool may_stand_by_itself(const struct sluice_packet *pkt)
{
	const __u32 none = SLUICE_PKT_BY_ITSELF | SLUICE_PKT_UNSERVICE | SLUICE_PKT_TRANSLATED | SLUICE_PKT_STACK;

	return (pkt->flags & (SLUICE_PKT_REPLY | none)) == SLUICE_PKT_REPLY && pkt->proto != IPPROTO_TCP &&
	       pkt->proto != IPPROTO_ICMP && pkt->state == SLUICE_STATE_ESTABLISHED;
}

SEC("tc")
int firewall(struct __sk_buff *skb)
{
	struct sluice_packet *pkt = packet_get();
	struct connection conn;
	__u64 stamp;
	__u32 reason = SLUICE_DROP_NONE;

	if (!pkt)
		return TC_ACT_SHOT;
	/* Before any rule is read: a stamp must never vouch for rules newer than those read here. Nor may
	 * a program that was replaced meanwhile vouch for its successor. */
	stamp = live_stamp();
	pkt = packet_after(pkt, stamp);
	if (SLUICE_STAMP_GENERATION(stamp) != generation_number)
		stamp = SLUICE_STAMP(generation_number, 0);
	/* One generation judges both ways. */
	if (SLUICE_STAMP_GENERATION(pkt->stamp) != generation_number)
		pkt->flags &= ~SLUICE_PKT_BY_ITSELF;
	pkt->stamp = stamp;
	if (!(pkt->flags & SLUICE_PKT_OWN_NODE)) {
		conn = original(pkt);
		reason = judge(&conn);
	}
	pkt->verdict = reason;
	/* Read back, so that the verifier knows no more of it and walks the rest once, not once a verdict. */
	reason = *(volatile __u16 *)&pkt->verdict;
	if (pkt->hook == SLUICE_HOOK_PROBE)
		return SLUICE_PROBE_RESULT + reason;
	if (unlikely(reason) && may_stand_by_itself(pkt)) {
		pkt->flags |= SLUICE_PKT_BY_ITSELF;
		bpf_tail_call(skb, &modules, pkt->firewall);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	}

	count_module(pkt, SLUICE_MODULE_FIREWALL);
	if (!(pkt->flags & SLUICE_PKT_OWN_NODE)) {
		const struct report what = { SLUICE_EVENT_VERDICT, SLUICE_MODULE_FIREWALL, reason,
					     generation_number };

		count_verdict(pkt, reason);
		report(skb, pkt, &what);
	}
	if (!reason) {
		if (pkt->state != SLUICE_STATE_NEW && !(pkt->flags & SLUICE_PKT_BY_ITSELF))
			go_to(skb, SLUICE_MODULE_NAT_NEW);
		else
			go_to_next(skb, pkt);
		reason = SLUICE_DROP_TAIL_CALL_MISSING;
	}
	/* Found anew, for the verifier: it walks what follows once then, not once for each way that leads here. */
	pkt = packet_get();
	if (!pkt)
		return TC_ACT_SHOT;
	return drop(skb, pkt, SLUICE_MODULE_FIREWALL, reason);
}
