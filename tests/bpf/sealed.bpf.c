// SPDX-License-Identifier: GPL-2.0-only
/* Asks for a key's value as the modules do: 1, it was believed; 0, it was not. */
#include "lib/fragment.h"
#include "lib/peer_class.h"
#include "lib/service.h"
#include "lib/socket_peer.h"

char LICENSE[] SEC("license") = "GPL";

struct question {
	union {
		struct sluice_ct_key conntrack;
		struct sluice_fragment_key fragment;
		struct sluice_service_key service;
		struct sluice_affinity_key affinity;
		struct sluice_socket_peer_key socket_peer;
		struct sluice_addr peer;
	} held;
	/* The key that gets the element, and its value. */
	struct sluice_service_key heir;
	struct sluice_service heirloom;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct question);
} question SEC(".maps");

static __always_inline struct question *asked(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&question, &zero);
}

SEC("tc")
int ask_conntrack(struct __sk_buff *skb __attribute__((unused)))
{
	const struct sluice_config *cfg = config_get();
	const struct question *asks = asked();
	struct ct_snapshot ct;

	return asks && cfg && ct_find(cfg, &asks->held.conntrack, &ct) == CT_FOUND;
}

SEC("tc")
int ask_fragment(struct __sk_buff *skb __attribute__((unused)))
{
	const struct question *asks = asked();
	struct sluice_packet *pkt = packet_get();

	if (!asks || !pkt)
		return 0;
	pkt->fragment = asks->held.fragment;
	pkt->now_ns = bpf_ktime_get_ns();
	return fragment_recall(pkt);
}

SEC("tc")
int ask_service(struct __sk_buff *skb __attribute__((unused)))
{
	const struct question *asks = asked();
	struct sluice_service service;

	return asks && service_get(&asks->held.service, &service);
}

SEC("tc")
int ask_affinity(struct __sk_buff *skb __attribute__((unused)))
{
	const struct sluice_service service = { .affinity_s = 3600 };
	const struct question *asks = asked();

	return asks && backend_by_client(&service, &asks->held.affinity, bpf_ktime_get_ns());
}

SEC("tc")
int ask_socket_peer(struct __sk_buff *skb __attribute__((unused)))
{
	const struct question *asks = asked();
	struct end end;

	if (!asks)
		return 0;
	end.addr_be = asks->held.socket_peer.backend_be;
	end.port_be = asks->held.socket_peer.port_be;
	return peer_recall(asks->held.socket_peer.cookie, asks->held.socket_peer.proto, &end);
}

SEC("tc")
int ask_peer(struct __sk_buff *skb __attribute__((unused)))
{
	const struct question *asks = asked();
	const struct sluice_peer *found = asks ? bpf_map_lookup_elem(&peers, &asks->held.peer) : NULL;

	return found && peer_class(found, 1, sluice_peer_bind(&asks->held.peer, 0)) != SLUICE_NO_CLASS;
}

/* Holds a Service's element while it goes to the heir. 2: it went, and is not believed; 1: it went; 0: it did not. */
SEC("tc")
int inherit(struct __sk_buff *skb __attribute__((unused)))
{
	const struct question *asks = asked();
	const struct sluice_service *found = asks ? bpf_map_lookup_elem(&services, &asks->held.service) : NULL;
	struct sluice_service service;

	if (!found || bpf_map_delete_elem(&services, &asks->held.service) ||
	    bpf_map_update_elem(&services, &asks->heir, &asks->heirloom, BPF_NOEXIST) ||
	    sealed_word(&found->seal) != asks->heirloom.seal)
		return 0;
	return sealed_read(&service, found, sluice_service_seal(&asks->held.service, &service)) ? 1 : 2;
}
