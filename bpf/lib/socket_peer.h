/* SPDX-License-Identifier: GPL-2.0-only */
/* What a socket of the node took for the other end before its address was translated. */
#ifndef SLUICE_LIB_SOCKET_PEER_H
#define SLUICE_LIB_SOCKET_PEER_H

#include "lib/maps.h"
#include "lib/sealed.h"

/* An address as programs name it. */
struct end {
	__be32 addr_be;
	__be16 port_be;
};

static __always_inline bool peer_known(const struct sluice_socket_peer_key *key, const struct sluice_socket_peer *peer)
{
	const struct sluice_socket_peer *found = bpf_map_lookup_elem(&socket_peers, key);
	struct sluice_socket_peer copy;

	return found && sealed_read(&copy, found, peer->seal);
}

static __always_inline void peer_remember(__u64 cookie, __u8 proto, const struct end *service,
					  const struct end *backend)
{
	struct sluice_socket_peer_key key = {
		.cookie = cookie, .backend_be = backend->addr_be, .port_be = backend->port_be, .proto = proto };
	struct sluice_socket_peer peer = { .service_be = service->addr_be, .port_be = service->port_be };

	peer.seal = sluice_socket_peer_seal(&key, peer.service_be, peer.port_be);
	if (!peer_known(&key, &peer))
		bpf_map_update_elem(&socket_peers, &key, &peer, BPF_ANY);
}

/* What the program took for the other end, in the place of what it is. False: the very same. */
static __always_inline bool peer_recall(__u64 cookie, __u8 proto, struct end *end)
{
	const struct sluice_socket_peer_key key = {
		.cookie = cookie, .backend_be = end->addr_be, .port_be = end->port_be, .proto = proto };
	const struct sluice_socket_peer *found = bpf_map_lookup_elem(&socket_peers, &key);
	struct sluice_socket_peer peer;

	if (!found || !sealed_read(&peer, found, sluice_socket_peer_seal(&key, peer.service_be, peer.port_be)))
		return false;
	end->addr_be = peer.service_be;
	end->port_be = peer.port_be;
	return true;
}

#endif
