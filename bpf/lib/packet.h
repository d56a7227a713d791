/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every module does with the packet context: get it, count, drop with a reason, report, go on to
 * the next module. All functions are inlined: bpf-to-bpf calls next to tail calls need Linux 6.0 on arm64.
 */
#ifndef SLUICE_LIB_PACKET_H
#define SLUICE_LIB_PACKET_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/address.h"
#include "lib/maps.h"

#define unlikely(x) __builtin_expect(!!(x), 0)
#define likely(x) __builtin_expect(!!(x), 1)

/* The programs run with bottom halves off and never nest on a CPU (a redirect happens after the
 * program's end), so the context belongs to one packet from entry to deliver. */
static __always_inline struct sluice_packet *packet_get(void)
{
	__u32 zero = 0;
	struct sluice_cpu *own = bpf_map_lookup_elem(&packet, &zero);

	return own ? &own->packet : NULL;
}

/* The counters beside it. */
static __always_inline struct sluice_stats *stats_of(const struct sluice_packet *pkt)
{
	return &((struct sluice_cpu *)pkt)->stats;
}

static __always_inline const struct sluice_config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

static __always_inline bool masquerade_port(const struct sluice_config *cfg, __be16 port_be)
{
	__u16 port = bpf_ntohs(port_be);

	return port >= cfg->snat_port_min && port <= cfg->snat_port_max;
}

static __always_inline struct sluice_endpoint *endpoint_get(__u32 id)
{
	return bpf_map_lookup_elem(&endpoints, &id);
}

/*
 * Where the endpoint id is kept that was found last by something with these low bits. A lookup of an array costs
 * a tenth of a hash's. The id is not believed: the endpoint must have the very interface or address, else the
 * hash is asked. So it makes no difference who wrote it, or when.
 */
static __always_inline __u32 *hint_get(enum hint kind, __u32 bits)
{
	__u32 index = kind * SLUICE_MAX_ENDPOINTS + bits % SLUICE_MAX_ENDPOINTS;

	return bpf_map_lookup_elem(&hints, &index);
}

/* The local pod with the address, and its endpoint id; none: no local pod. */
static __always_inline const struct sluice_endpoint *local_endpoint(const struct sluice_addr *addr, __u32 *id)
{
	__u32 *hint = hint_get(HINT_LOCAL, bpf_ntohl(addr_v4(addr)));
	const struct sluice_endpoint *endpoint;
	const __u32 *found;

	*id = hint ? *hint : 0;
	if (likely(*id)) {
		endpoint = endpoint_get(*id);
		if (endpoint && addr_equal(&endpoint->ipv4, addr))
			return endpoint;
	}
	found = bpf_map_lookup_elem(&locals, addr);
	if (!found)
		return NULL;
	/* The element may be another address's by now (lib/sealed.h); an endpoint's address is there before its element. */
	*id = *found;
	endpoint = endpoint_get(*id);
	if (!endpoint || !addr_equal(&endpoint->ipv4, addr))
		return NULL;
	if (hint)
		*hint = *id;
	return endpoint;
}

/* Endpoint id of a local pod's address; 0: no local pod. */
static __always_inline __u32 local_get(const struct sluice_addr *addr)
{
	__u32 id;

	return local_endpoint(addr, &id) ? id : 0;
}

/* volatile: read exactly once, where it is written in the program. */
static __always_inline __u64 live_stamp(void)
{
	__u32 zero = 0;
	const volatile struct sluice_live *now = bpf_map_lookup_elem(&live, &zero);

	return now ? now->stamp : 0;
}

static __always_inline void route_get(const struct sluice_addr *addr, struct sluice_route *route)
{
	struct sluice_route_key key = { .prefix_len = 128, .addr = *addr };
	const struct sluice_route *found = bpf_map_lookup_elem(&routes, &key);

	if (found) {
		*route = *found;
	} else {
		route->kind = SLUICE_ROUTE_WORLD;
		route->tunnel_be = 0;
	}
}

static __always_inline void packet_route(struct sluice_packet *pkt)
{
	if (pkt->flags & SLUICE_PKT_ROUTED)
		return;
	route_get(&pkt->dst, &pkt->route);
	pkt->flags |= SLUICE_PKT_ROUTED;
}

static __always_inline void count_module(const struct sluice_packet *pkt, enum sluice_module module)
{
	stats_of(pkt)->module_packets[module]++;
}

struct report {
	enum sluice_event_kind kind;
	enum sluice_module module;
	__u32 reason;
	__u32 generation;
};

static __always_inline void report(struct __sk_buff *skb, const struct sluice_packet *pkt,
				   const struct report *what)
{
	const struct sluice_config *cfg = config_get();
	__u32 wanted = what->kind == SLUICE_EVENT_DROP ? SLUICE_MONITOR_DROPS : SLUICE_MONITOR_VERDICTS;
	struct sluice_event *event;

	if (!cfg || !(cfg->monitor & wanted))
		return;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	event->time_ns = pkt->now_ns;
	addr_copy(&event->src, &pkt->src);
	addr_copy(&event->dst, &pkt->dst);
	event->sport_be = pkt->sport_be;
	event->dport_be = pkt->dport_be;
	event->proto = pkt->proto;
	event->kind = what->kind;
	event->hook = pkt->hook;
	event->module = what->module;
	event->src_endpoint = pkt->src_endpoint;
	event->dst_endpoint = pkt->dst_endpoint;
	event->generation = what->generation;
	event->length = skb->len;
	event->reason = what->reason;
	event->ifindex_low = skb->ifindex;
	event->pad = 0;
	bpf_ringbuf_submit(event, 0);
}

/* The one way a packet ends without having been sent. */
static __always_inline int drop(struct __sk_buff *skb, const struct sluice_packet *pkt,
				enum sluice_module module, __u32 reason)
{
	const struct report what = { SLUICE_EVENT_DROP, module, reason, 0 };

	/* So that the compiler keeps the mask: verifiers before Linux 6.10 do not see the bound without it. */
	asm volatile("" : "+r"(reason));
	stats_of(pkt)->drops[reason & (SLUICE_DROP_SLOTS - 1)]++;
	report(skb, pkt, &what);
	return TC_ACT_SHOT;
}

/* Leaves an uplink packet, which nothing has touched, to the node's stack (and to programs after us). */
static __always_inline int to_stack(const struct sluice_packet *pkt)
{
	stats_of(pkt)->to_stack++;
	return TC_ACT_UNSPEC;
}

/* Both return only if the slot is empty. A constant module is patched in as a direct jump: written out by
 * bpf_tail_call_static(), because the compiler would merge two calls into one whose index varies. */
#define go_to(skb, module) bpf_tail_call_static(skb, &modules, module)

static __always_inline void go_to_next(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	if (pkt->next == SLUICE_MODULE_DELIVER)
		go_to(skb, SLUICE_MODULE_DELIVER);
	else
		go_to(skb, SLUICE_MODULE_NAT_COMMIT);
}

/* From the bridge or the router. The firewall's index comes from the context, so that its jump is never
 * patched in and one write of the slot flips all callers at once. */
static __always_inline void go_to_firewall(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	if (pkt->flags & SLUICE_PKT_ADMITTED)
		go_to_next(skb, pkt);
	else
		bpf_tail_call(skb, &modules, pkt->firewall);
}

#endif
