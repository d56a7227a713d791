// SPDX-License-Identifier: GPL-2.0-only
/*
 * Services for the node's own processes, at the socket: a connection is made to the backend itself, so that no packet
 * of it needs translation. Attached to the node's cgroup v2 and in force for sockets of the node's network namespace
 * only: what pods send meets policy, hence `nat`. Without a cgroup v2, and for what is left alone here (nobody serves
 * the Service), the stack's packets to cluster IPs come to `nat`, too.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/service.h"
#include "lib/socket_peer.h"

char LICENSE[] SEC("license") = "GPL";

#define PROCEED 1
#define REFUSE 0	/* EPERM */

static __always_inline bool of_node(struct bpf_sock_addr *ctx, const struct sluice_config *cfg)
{
	return bpf_get_netns_cookie(ctx) == (cfg->netns_cookie ?: bpf_get_netns_cookie(NULL));
}

static __always_inline bool is_loopback(__be32 addr_be)
{
	return (addr_be & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

/* A socket's addresses are those of one connection, so its cookie stands for the connection's tuple. */
static __always_inline __u64 hash_of(__u64 cookie)
{
	return cookie * SLUICE_HASH_1;
}

enum outcome {
	LEFT_ALONE,	/* no Service, or nobody serves it */
	TRANSLATED,	/* the other end is the backend now */
	NOT_ALLOWED,	/* the Service is not for the node */
};

static __always_inline enum outcome to_backend(struct bpf_sock_addr *ctx, const struct sluice_config *cfg,
					       __u8 proto, struct end *end)
{
	struct sluice_service_key ADDR_ON_STACK key;
	struct client client = { &cfg->node_ipv4, hash_of(bpf_get_socket_cookie(ctx)), 0 };
	const struct sluice_backend *backend;
	struct sluice_addr ADDR_ON_STACK addr;
	struct sluice_service service;

	addr_set_v4(&addr, end->addr_be);
	service_key_make(&key, &addr, end->port_be, proto, SLUICE_SCOPE_INSIDE);
	if (!service_get(&key, &service)) {
		if (!is_loopback(end->addr_be))
			return LEFT_ALONE;
		/* Node ports and hostPorts are served on localhost as well. Other Services at the node's address are not:
		 * their authors would take over what the node's daemons serve on localhost. */
		addr_copy(&key.addr, &cfg->node_ipv4);
		if (!service_get(&key, &service) || !(service.flags & SLUICE_SERVICE_LOOPBACK))
			return LEFT_ALONE;
	}
	if (!source_allowed(&service, &cfg->node_ipv4))
		return NOT_ALLOWED;
	client.now_ns = bpf_ktime_get_ns();
	backend = backend_choose(&service, &client);
	if (!backend)
		return LEFT_ALONE;
	end->addr_be = addr_v4(&backend->addr);
	end->port_be = backend->port_be;
	return TRANSLATED;
}

static __always_inline enum outcome to_send(struct bpf_sock_addr *ctx, struct end *end)
{
	const struct sluice_config *cfg = config_get();
	const struct end service = *end;
	__u8 proto = ctx->protocol;
	const struct sluice_packet *pkt;
	enum outcome outcome;

	if ((proto != IPPROTO_TCP && proto != IPPROTO_UDP) || !cfg || !of_node(ctx, cfg))
		return LEFT_ALONE;
	outcome = to_backend(ctx, cfg, proto, end);
	if (outcome == TRANSLATED) {
		peer_remember(bpf_get_socket_cookie(ctx), proto, &service, end);
		pkt = packet_get();	/* for the counters beside it */
		if (pkt)
			count_module(pkt, SLUICE_MODULE_SOCKET);
	}
	return outcome;
}

static __always_inline bool to_name(struct bpf_sock_addr *ctx, struct end *end)
{
	const struct sluice_config *cfg = config_get();

	return cfg && of_node(ctx, cfg) && peer_recall(bpf_get_socket_cookie(ctx), ctx->protocol, end);
}

/* ---- IPv4 ------------------------------------------------------------------------------- */
static __always_inline struct end end_of_v4(const struct bpf_sock_addr *ctx)
{
	return (struct end){ ctx->user_ip4, ctx->user_port };
}

static __always_inline void end_set_v4(struct bpf_sock_addr *ctx, const struct end *end)
{
	ctx->user_ip4 = end->addr_be;
	ctx->user_port = end->port_be;
}

static __always_inline int send_v4(struct bpf_sock_addr *ctx)
{
	struct end end = end_of_v4(ctx);
	enum outcome outcome = to_send(ctx, &end);

	if (outcome == TRANSLATED)
		end_set_v4(ctx, &end);
	return outcome == NOT_ALLOWED ? REFUSE : PROCEED;
}

static __always_inline int name_v4(struct bpf_sock_addr *ctx)
{
	struct end end = end_of_v4(ctx);

	if (to_name(ctx, &end))
		end_set_v4(ctx, &end);
	return PROCEED;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return send_v4(ctx);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return send_v4(ctx);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return name_v4(ctx);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return name_v4(ctx);
}

/* ---- IPv4 by IPv6 sockets: IPv4-mapped addresses (RFC 4291, 2.5.5.2) -------------------------- */
static __always_inline bool is_mapped(const struct bpf_sock_addr *ctx)
{
	return !ctx->user_ip6[0] && !ctx->user_ip6[1] && ctx->user_ip6[2] == bpf_htonl(0xffff);
}

static __always_inline struct end end_of_mapped(const struct bpf_sock_addr *ctx)
{
	return (struct end){ ctx->user_ip6[3], ctx->user_port };
}

static __always_inline void end_set_mapped(struct bpf_sock_addr *ctx, const struct end *end)
{
	ctx->user_ip6[3] = end->addr_be;
	ctx->user_port = end->port_be;
}

static __always_inline int name_mapped(struct bpf_sock_addr *ctx)
{
	struct end end;

	if (!is_mapped(ctx))
		return PROCEED;
	end = end_of_mapped(ctx);
	if (to_name(ctx, &end))
		end_set_mapped(ctx, &end);
	return PROCEED;
}

/* sendmsg of a mapped address comes to sendmsg4. */
SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	enum outcome outcome;
	struct end end;

	if (!is_mapped(ctx))
		return PROCEED;
	end = end_of_mapped(ctx);
	outcome = to_send(ctx, &end);
	if (outcome == TRANSLATED)
		end_set_mapped(ctx, &end);
	return outcome == NOT_ALLOWED ? REFUSE : PROCEED;
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return name_mapped(ctx);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return name_mapped(ctx);
}
