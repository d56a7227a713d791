/* SPDX-License-Identifier: GPL-2.0-only */
/* Services: who serves an address and port. */
#ifndef SLUICE_LIB_SERVICE_H
#define SLUICE_LIB_SERVICE_H

#include "lib/conntrack.h"

/* False: there is no such Service. */
static __always_inline bool service_get(const struct sluice_service_key *key, struct sluice_service *service)
{
	const struct sluice_service *found = bpf_map_lookup_elem(&services, key);

	if (!found)
		return false;
	if (sealed_read(service, found, sluice_service_seal(key, service)))
		return true;
	/* The next lookup does not meet an element that is not the key's any more. */
	found = bpf_map_lookup_elem(&services, key);
	return found && sealed_read(service, found, sluice_service_seal(key, service));
}

static __always_inline void service_key_make(struct sluice_service_key *key, const struct sluice_addr *addr,
					     __be16 port_be, __u8 proto, enum sluice_service_scope scope)
{
	addr_copy(&key->addr, addr);
	((word64 *)key)[2] = port_be | (__u64)proto << 16 | (__u64)scope << 24;
}

/* By the packet's destination. */
static __always_inline bool service_find(const struct sluice_packet *pkt, struct sluice_service *service)
{
	struct sluice_service_key ADDR_ON_STACK key;

	service_key_make(&key, &pkt->dst, pkt->dport_be, pkt->proto,
			 pkt->hook == SLUICE_HOOK_UPLINK ? SLUICE_SCOPE_OUTSIDE : SLUICE_SCOPE_INSIDE);
	return service_get(&key, service);
}

/*
 * Would a packet that is for no Service leave the cluster, though its address belongs to Services? Out there the address is
 * nobody's, or somebody's whom the client does not mean. What comes from outside is not asked for: the router sends it out
 * again for Services only.
 */
static __always_inline bool for_service_address(struct sluice_packet *pkt)
{
	struct sluice_route_key key = { .prefix_len = 128, .addr = pkt->dst };

	if (pkt->hook != SLUICE_HOOK_POD && pkt->hook != SLUICE_HOOK_HOST)
		return false;
	packet_route(pkt);
	return (pkt->route.kind == SLUICE_ROUTE_WORLD || pkt->route.kind == SLUICE_ROUTE_WORLD_BARE) &&
	       bpf_map_lookup_elem(&service_addresses, &key);
}

/* May the client use the Service? */
static __always_inline bool source_allowed(const struct sluice_service *service, const struct sluice_addr *client)
{
	struct sluice_source_key key = { .prefix_len = SLUICE_SOURCE_SET_BITS + 128 };

	if (likely(!service->sources))
		return true;
	key.sources[0] = (__u32)service->sources;
	key.sources[1] = (__u32)(service->sources >> 32);
	key.addr = *client;
	return bpf_map_lookup_elem(&service_sources, &key);
}

/* Who asks a Service for a backend. */
struct client {
	const struct sluice_addr *addr;
	__u64 hash;	/* the same for all packets of a connection, so that a repeated SYN goes where the first one went */
	__u64 now_ns;
};

/* The backend's id; 0: none. */
static __always_inline __u32 backend_by_hash(const struct sluice_service *service, __u64 hash)
{
	const __u32 *id;
	__u32 slot;

	if (!service->count)
		return 0;
	slot = service->first + (__u32)(hash >> 32) % service->count;
	id = bpf_map_lookup_elem(&service_slots, &slot);
	return id ? *id : 0;
}

/* The backend that the client had, if it had one lately and the Service has it still; else 0. */
static __always_inline __u32 backend_by_client(const struct sluice_service *service,
					       const struct sluice_affinity_key *key, __u64 now_ns)
{
	const struct sluice_affinity *found = bpf_map_lookup_elem(&affinities, key);
	struct sluice_affine_key affine_key = { .service = key->service };
	struct sluice_affinity affinity;

	if (!found || !sealed_read(&affinity, found, sluice_affinity_seal(key, affinity.backend)) ||
	    (__s64)(now_ns - affinity.seen_ns) > (__s64)(service->affinity_s * SLUICE_NS_PER_S))
		return 0;
	affine_key.backend = affinity.backend;
	return bpf_map_lookup_elem(&affine, &affine_key) ? affinity.backend : 0;
}

static __always_inline const struct sluice_backend *backend_choose(const struct sluice_service *service,
								   const struct client *client)
{
	struct sluice_affinity_key ADDR_ON_STACK key;
	struct sluice_affinity ADDR_ON_STACK affinity = { .seen_ns = client->now_ns };
	const struct sluice_backend *backend;
	__u32 id = 0;

	if (service->affinity_s) {
		addr_copy(&key.client, client->addr);
		key.service = service->id;
		id = backend_by_client(service, &key, client->now_ns);
	}
	if (!id)
		id = backend_by_hash(service, client->hash);
	if (!id)
		return NULL;
	if (service->affinity_s) {
		affinity.backend = id;
		affinity.seal = sluice_affinity_seal(&key, id);
		bpf_map_update_elem(&affinities, &key, &affinity, BPF_ANY);
	}
	backend = bpf_map_lookup_elem(&backends, &id);
	return backend && !addr_is_none(&backend->addr) ? backend : NULL;
}

#endif
