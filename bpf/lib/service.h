/* SPDX-License-Identifier: GPL-2.0-only */
/* Services: who serves an address and port. */
#ifndef SLUICE_LIB_SERVICE_H
#define SLUICE_LIB_SERVICE_H

#include "lib/conntrack.h"

static __always_inline bool service_copy(const struct sluice_service *found, const struct sluice_service_key *key,
					 struct sluice_service *service)
{
	service->first = *(const volatile __u32 *)&found->first;
	service->count = *(const volatile __u32 *)&found->count;
	service->flags = *(const volatile __u32 *)&found->flags;
	service->seal = *(const volatile __u64 *)&found->seal;
	return service->seal == sluice_service_seal(key, service);
}

/* False: the destination is no Service's. */
static __always_inline bool service_find(const struct sluice_packet *pkt, struct sluice_service *service)
{
	struct sluice_service_key ADDR_ON_STACK key;
	const struct sluice_service *found;
	__u64 scope = pkt->hook == SLUICE_HOOK_UPLINK ? SLUICE_SCOPE_OUTSIDE : SLUICE_SCOPE_INSIDE;

	addr_copy(&key.addr, &pkt->dst);
	((word64 *)&key)[2] = pkt->dport_be | (__u64)pkt->proto << 16 | scope << 24;
	found = bpf_map_lookup_elem(&services, &key);
	if (!found)
		return false;
	if (service_copy(found, &key, service))
		return true;
	/* The next lookup does not meet an element that is not the key's any more. */
	found = bpf_map_lookup_elem(&services, &key);
	return found && service_copy(found, &key, service);
}

/* The same for all packets of the connection, so that a repeated SYN goes where the first one went. */
static __always_inline const struct sluice_backend *backend_choose(const struct sluice_service *service,
								   const struct sluice_ct_key *front)
{
	const struct sluice_backend *backend;
	const __u32 *id;
	__u32 slot;

	if (!service->count)
		return NULL;
	slot = service->first + (__u32)(sluice_ct_hash(front) >> 32) % service->count;
	id = bpf_map_lookup_elem(&service_slots, &slot);
	if (!id || !*id)
		return NULL;
	backend = bpf_map_lookup_elem(&backends, id);
	return backend && !addr_is_none(&backend->addr) ? backend : NULL;
}

#endif
