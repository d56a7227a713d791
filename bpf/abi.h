/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The one definition of everything that the eBPF modules and user space share:
 * map keys and values, the per-CPU packet context, events, reasons, constants.
 * Compiled as C by clang for BPF and as C++ by the daemon; the assertions at the
 * end hold the layout on both sides.
 *
 * Byte order: a field whose name ends in _be is in network byte order; all other
 * integers are in host byte order. An address is always 16 bytes; IPv4 is
 * IPv4-mapped (RFC 4291, 2.5.5.2).
 * Times are nanoseconds of CLOCK_MONOTONIC; in what packets leave behind, of the last tick before.
 */
#ifndef SLUICE_BPF_ABI_H
#define SLUICE_BPF_ABI_H

#include <linux/bpf.h>
#include <linux/types.h>

/* Version of the packet context and of every pinned map. All that is pinned lives in
 * <bpffs>/sluice/v<SLUICE_ABI_VERSION>/; modules of one version work with each other. */
#define SLUICE_ABI_VERSION 1

#ifdef __cplusplus
#define SLUICE_ASSERT(cond, text) static_assert(cond, text)
extern "C" {
#else
#define SLUICE_ASSERT(cond, text) _Static_assert(cond, text)
#endif

/* ---- sizes -------------------------------------------------------------------------- */
enum {
	SLUICE_MAX_ENDPOINTS = 4096,	/* endpoint ids are 1 … MAX-1; 0 is "not an endpoint of this node" */
	SLUICE_MAX_ROUTES = 16384,
	SLUICE_PEERS = 131072,		/* that `peers` is first made for; user space replaces it by a larger one */
	SLUICE_MAX_PEERS = 1048576,
	SLUICE_MAX_PEER_BLOCKS = 65536,
	SLUICE_MAX_TABLE_ROWS = 262144,
	SLUICE_MAX_PORT_CLASSES = 65536,
	SLUICE_MAX_FRAGMENTS = 8192,
	SLUICE_CONNTRACK_MIN = 131072,	/* of the size that user space chooses by the memory of the machine */
	SLUICE_CONNTRACK_MAX = 1048576,
	SLUICE_EVENTS_BYTES = 1 << 20,
	SLUICE_GENERATION_SLOTS = 4,
	SLUICE_PORT_RUNS = 8,
	SLUICE_MAX_SERVICES = 131072,	/* frontends, each once for inside and once for outside */
	SLUICE_MAX_BACKENDS = 131072,	/* backend ids are 1 … MAX-1 */
	SLUICE_MAX_SERVICE_SLOTS = 1 << 21,
	SLUICE_MAX_AFFINITIES = 65536,
	SLUICE_MAX_SERVICE_SOURCES = 65536,
	SLUICE_MAX_SOCKET_PEERS = 65536,
	SLUICE_MAX_UPLINKS = 256,
	SLUICE_MAX_MASQUERADE_ADDRESSES = 256,	/* their numbers are 1 … MAX-1 */
	SLUICE_TUNNEL_FLOWS = 4096,
	SLUICE_TUNNEL_HOPS = 256,
};

/* Masquerade ports, unless the configuration has others: above the kernel's default ip_local_port_range
 * (32768–60999), so that a connection of the node itself never meets one. */
enum {
	SLUICE_SNAT_PORT_MIN = 61000,
	SLUICE_SNAT_PORT_MAX = 65535,
	SLUICE_SNAT_TRIES = 64,
	SLUICE_SNAT_MODEST = 128,	/* entries of conntrack with which an owner's ports are safe from others */
};

/* UDP source ports of tunnel packets, one per flow (RFC 7348, 5): of the modules and of the VXLAN device. Apart from the
 * masquerade ports: from one of those no node sends tunnel packets, so such a packet is a pod's. */
enum {
	SLUICE_TUNNEL_PORT_MIN = 32768,
	SLUICE_TUNNEL_PORT_MAX = 60999,
};

/* ---- addresses ---------------------------------------------------------------------- */
struct sluice_addr {
	union {
		__u8 bytes[16];
		__be32 word_be[4];
	};
};

#define SLUICE_V4_PREFIX_BITS 96	/* prefix length of ::ffff:0:0/96 */

/* ---- modules: slots of the pinned PROG_ARRAY `modules` ------------------------------- */
enum sluice_module {
	SLUICE_MODULE_ENTRY = 0,	/* attached to hooks, never tail-called; its slot stays empty */
	SLUICE_MODULE_NAT = 1,		/* conntrack lookup, translation of what it knows */
	SLUICE_MODULE_BRIDGE = 2,
	SLUICE_MODULE_ROUTER = 3,
	SLUICE_MODULE_FIREWALL = 4,	/* the live generation */
	SLUICE_MODULE_NAT_COMMIT = 5,	/* conntrack entry of an admitted connection, masquerade */
	SLUICE_MODULE_DELIVER = 6,
	SLUICE_MODULE_CANDIDATE = 7,	/* a firewall generation under check, reached by `probe` only */
	SLUICE_MODULE_PROBE = 8,	/* run by BPF_PROG_TEST_RUN only; its slot stays empty */
	SLUICE_MODULE_NAT_NEW = 9,	/* a routed connection that conntrack does not have: Services, masquerade */
	SLUICE_MODULE_REFUSE = 10,	/* tells a sender why its packet goes no further */
	SLUICE_MODULE_SOCKET = 11,	/* attached to the node's cgroup, no packets; its slot stays empty */
	SLUICE_MODULE_SWEEP = 12,	/* run by BPF_PROG_TEST_RUN only; its slot stays empty */
	SLUICE_MODULE_COUNT = 13,
	SLUICE_MODULE_SLOTS = 16,	/* size of the PROG_ARRAY: room for inspection and shadow modules */
};

/* ---- where a packet entered ---------------------------------------------------------- */
enum sluice_hook {
	SLUICE_HOOK_POD = 0,		/* host side of a pod's veth, ingress: from the pod */
	SLUICE_HOOK_HOST = 1,		/* sluice_net, ingress: from the node's own stack (sent out by sluice_host) */
	SLUICE_HOOK_OVERLAY = 2,	/* sluice_vxlan, ingress: from another node */
	SLUICE_HOOK_UPLINK = 3,		/* an uplink of the node, ingress */
	SLUICE_HOOK_PROBE = 4,		/* BPF_PROG_TEST_RUN of a candidate generation */
	SLUICE_HOOK_ANSWER = 5,		/* none: an ICMP error of this node, in the place of the packet that it is about */
	SLUICE_HOOK_BARE = 6,		/* an uplink without Ethernet headers, ingress; its packets are UPLINK's */
	SLUICE_HOOK_COUNT = 7,
};

/* ---- drop reasons: each has a line in docs/drop-reasons.md ---------------------------- */
#define SLUICE_DROP_REASONS(X) \
	X(NONE, "not dropped") \
	X(TAIL_CALL_MISSING, "a module's slot is empty") \
	X(MAP_MISSING, "an entry that must exist is missing from a map") \
	X(ENDPOINT_UNKNOWN, "the interface belongs to no endpoint") \
	X(SHORT_PACKET, "the packet ends inside a header") \
	X(BAD_HEADER, "a header contradicts itself") \
	X(SOURCE_MAC, "source MAC address is not the endpoint's") \
	X(SOURCE_IP, "source address is not the endpoint's") \
	X(IPV6_UNSUPPORTED, "IPv6 is not built yet") \
	X(ETHERTYPE_UNSUPPORTED, "neither IPv4 nor ARP") \
	X(MULTICAST_UNSUPPORTED, "broadcast or multicast destination") \
	X(ARP_UNANSWERED, "ARP that is no request for an address of the segment") \
	X(FRAGMENT_UNKNOWN, "fragment whose first fragment was not seen") \
	X(MAC_UNKNOWN, "destination MAC address is neither the gateway's nor an endpoint's") \
	X(MAC_IP_MISMATCH, "destination MAC address belongs to another endpoint than the destination address") \
	X(ENDPOINT_GONE, "address of this node's podCIDR without an endpoint") \
	X(NO_ROUTE, "no route to the destination") \
	X(TTL_EXPIRED, "time to live exceeded") \
	X(TUNNEL_SOURCE, "tunnel packet from a node that does not own the source address") \
	X(POLICY_MISSING, "the endpoint has no rules in the live generation") \
	X(POLICY_EGRESS, "NetworkPolicy of the source endpoint") \
	X(POLICY_INGRESS, "NetworkPolicy of the destination endpoint") \
	X(CT_FULL, "conntrack table full") \
	X(CT_BUDGET, "whoever opens the connection has more conntrack entries than are free") \
	X(CT_BUSY, "the tuple is another connection's") \
	X(CT_INVALID, "ICMP error that belongs to no connection") \
	X(SNAT_PORTS_EXHAUSTED, "no free masquerade port") \
	X(SNAT_UNSUPPORTED, "protocol that cannot be masqueraded") \
	X(REWRITE_FAILED, "the packet could not be rewritten") \
	X(NO_UPLINK, "destination outside the cluster and no uplink") \
	X(NOT_FOR_POD, "packet from the overlay that is for nobody here") \
	X(SERVICE_NO_BACKEND, "nobody serves the Service that the packet is for") \
	X(SERVICE_UNSUPPORTED, "fragment or protocol that cannot be sent to a backend") \
	X(SERVICE_SOURCE, "loadBalancerSourceRanges of the Service do not have the source") \
	X(TUNNEL_PORT, "for a node's tunnel port, in the name of a node that did not send it") \
	X(TOO_BIG, "larger than its way out of the node takes") \
	X(SERVICE_PORT, "for an address of Services, at a port that none of them has")

enum sluice_drop_reason {
#define SLUICE_X(name, text) SLUICE_DROP_##name,
	SLUICE_DROP_REASONS(SLUICE_X)
#undef SLUICE_X
	SLUICE_DROP_COUNT,
	SLUICE_DROP_SLOTS = 64,
};

/* ---- conntrack ------------------------------------------------------------------------ */
/*
 * One entry a connection, whichever way its packets run: the key is the tuple that policy sees, in canonical
 * order, the lower (address, port) first. Where others see another tuple, that has an entry of its own, which
 * names the first: SLUICE_CT_ALIAS for what the outside sees of a masqueraded connection, SLUICE_CT_FRONT for what
 * the originator sees of a connection to a Service.
 * ICMP and ICMPv6 echo: both ports are the identifier. Other protocols: ports are 0.
 */
struct sluice_ct_key {
	struct sluice_addr addr[2];
	__be16 port_be[2];
	__u8 proto;
	__u8 side;		/* SLUICE_CT_OWN_SIDE: see there; else 0 */
	__u8 pad[2];
} __attribute__((aligned(8)));

/* A pod may use one port of its own for a connection to a backend and for one to a Service that leads to the same
 * backend. The later one goes by another port then. If that is the direct one, its front has the tuple of the other's
 * main entry; this tells them apart. */
#define SLUICE_CT_OWN_SIDE 1

enum sluice_ct_flags {		/* of an entry from its insertion to its end */
	SLUICE_CT_ORIGIN_HIGH = 1 << 0,	/* the originator is addr[1] */
	SLUICE_CT_MASQUERADE = 1 << 1,	/* the outside sees an address of the node, snat_port_be, as the originator */
	SLUICE_CT_ALIAS = 1 << 2,	/* addr:port_be is the originator inside */
	SLUICE_CT_STACK = 1 << 3,	/* came by the node's stack, which may translate it: replies go back there */
	SLUICE_CT_SERVICE = 1 << 4,	/* the originator, at client_port_be, sees addr:port_be as the other end */
	SLUICE_CT_FRONT = 1 << 5,	/* addr:port_be is the backend, which sees client_port_be */
	SLUICE_CT_OWN_NODE = 1 << 6,	/* the originator is this node itself: see SLUICE_PKT_OWN_NODE */
	/* From this bit on, of MASQUERADE: the number of the address in `masquerade_addresses`. */
	SLUICE_CT_NUMBER_SHIFT = 8,
};

enum sluice_ct_progress {	/* how far the connection has come; an alias mirrors it */
	SLUICE_CT_REPLIED = 1 << 0,	/* a packet of the reply direction was seen */
	SLUICE_CT_FIN_ORIGIN = 1 << 1,
	SLUICE_CT_FIN_REPLY = 1 << 2,
	SLUICE_CT_CLOSED = 1 << 3,	/* RST, or FIN of both sides */
	/* TCP: the originator went on after a reply, so it was no SYN to nowhere or in a flood. UDP: something came some time
	 * (SLUICE_CT_RENEW_NS) after a reply, so it was more than one exchange. */
	SLUICE_CT_ASSURED = 1 << 4,
	SLUICE_CT_DOUBTED = 1 << 5,	/* of CLOSED: by a reset from outside, which anybody may have forged */
	SLUICE_CT_ASKED = 1 << 6,	/* a SYN asked the server whether the connection is over; nobody has said that it goes on */
};

/* How a connection is translated: written by the insertion of its entry only. */
struct sluice_ct_nat {
	struct sluice_addr addr;
	__be16 port_be;
	__u16 flags;		/* enum sluice_ct_flags */
	__be16 client_port_be;
	__be16 snat_port_be;
};

/*
 * Read without a lock, hence with a seal (lib/sealed.h), and written without one: stamp, progress and last_seen_ns. Such a
 * write may come late, into the entry of another connection that has the place by then. Therefore nothing in an entry is
 * believed unless it is bound to the connection, by a hash of its key:
 * - `seal` binds `nat` to the key and its fields to each other.
 * - `stamp` and `progress` are bound to the seal, hence to the key, the direction and the translation: in
 *   another connection's entry, or in a later one of the same tuple the other way round, they mean nothing.
 * - last_seen_ns is about now whoever writes it: a late write lets an entry live longer, once.
 */
struct sluice_ct_entry {
	__u64 last_seen_ns;	/* renewed at most once in SLUICE_CT_RENEW_NS */
	__u64 stamp;		/* sluice_ct_stamp() of what admitted the connection last */
	__u64 seal;		/* sluice_ct_seal() */
	struct sluice_ct_nat nat;
	__u32 progress;		/* sluice_ct_progress_word() */
	__u32 owner;		/* whose use of the table it counts for: see SLUICE_CT_OWNERS */
};

/*
 * The table is made of groups, and each group of sets of eight ways and a pool of entries. By the hash of its key, of
 * which nobody outside knows the secrets, an entry is told by one of two sets of one group: the first, or, where that was
 * half full when the entry was made, the emptier one. It takes the place in the pool that became free last, so that what is
 * in use stays together in memory, and never moves.
 * `conntrack_groups`: ARRAY of struct sluice_ct_group. `conntrack`: ARRAY, BPF_F_MMAPABLE, of struct sluice_ct_pool by group.
 * With as many entries as the table has room for, half of the ways are taken: of 20 million connections that came and went
 * then, none found both of its sets full. Groups are not filled alike: the pools have places for eight standard deviations
 * more than the mean.
 * Who changes tags, keys or `nat` holds the group's lock. Who reads holds none: see struct sluice_ct_entry.
 */
enum {
	SLUICE_CT_WAYS = 8,
	SLUICE_CT_GROUP_SETS = 256,
	SLUICE_CT_GROUP_ENTRIES = SLUICE_CT_GROUP_SETS * SLUICE_CT_WAYS / 2,	/* for which it has room */
	SLUICE_CT_POOL = SLUICE_CT_GROUP_ENTRIES * 5 / 4,
	SLUICE_CT_PLACE_BITS = 11,	/* for an index in the pool */
};

struct sluice_ct_tags {	/* of a set */
	/* Sixteen bits a way, way n modulo 4, from the lowest, of word n / 4. 0: it is free; else SLUICE_CT_TAG and bits of
	 * the key's hash, in no two ways of a set the same. */
	__u64 word[SLUICE_CT_WAYS / 4];
	__u16 entry[SLUICE_CT_WAYS];	/* index in the pool */
};
#define SLUICE_CT_TAG 0x8000

struct sluice_ct_group {
	struct bpf_spin_lock lock;
	__u32 fresh;	/* the pool's entries from here on were never used */
	__u32 free;	/* of the others that are free the first, + 1; each has the next one, + 1, in its `owner`. 0: none */
	__u32 hand;	/* modulo the number of sets, the one that is looked at next for what is over */
	__u32 spared;	/* so many new connections need not look for what is over: the last one that looked found nothing */
	__u32 pad[11];	/* two sets share a cache line, with nothing else */
	struct sluice_ct_tags tags[SLUICE_CT_GROUP_SETS];
};

struct sluice_ct_pair {
	struct sluice_ct_key key;
	struct sluice_ct_entry entry;
};

struct sluice_ct_pool {
	struct sluice_ct_pair pair[SLUICE_CT_POOL];
};

/*
 * `conntrack_use`: ARRAY, BPF_F_MMAPABLE, the number of entries (__s64) by owner; the last element counts all of them.
 * An owner is a pod of this node as originator (its endpoint id), or as the one that others' connections are for
 * (SLUICE_MAX_ENDPOINTS + its id); SLUICE_MAX_ENDPOINTS itself is the rest: the node, and what passes it.
 * A connection is opened only while its owner has fewer entries than are free. So one who floods gets half of the
 * table at most, n of them n/(n + 1), and whoever has few entries gets more at any time (the rule is that of dynamic
 * thresholds, Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998).
 * Programs add what they insert and subtract what they delete; user space does so with what it deletes, and puts right
 * what gets lost when two CPUs meet at one entry.
 * Entries that are over leave in two ways. User space looks for them from time to time. And where the table is crowded, each
 * new connection looks at two sets of its group, so that the table also lives without user space.
 */
enum {
	SLUICE_CT_CROWDED = 4,	/* with more than this part of the room in use the table is crowded */
	SLUICE_CT_OWNERS = 2 * SLUICE_MAX_ENDPOINTS,
	SLUICE_CT_USE_ALL = SLUICE_CT_OWNERS,
	SLUICE_CT_USES,
};

#define SLUICE_INLINE static inline __attribute__((always_inline))

/* Multilinear hash (modulo 2^64): each word times an odd constant of its own, here of the binary digits of
 * pi. The constants are no secret: to gain by a collision one would also have to hit the nanoseconds in which
 * an element changes hands. Its upper bits are the better ones. */
#define SLUICE_HASH_1 0x243f6a8885a308d3ULL
#define SLUICE_HASH_2 0x13198a2e03707345ULL
#define SLUICE_HASH_3 0xa4093822299f31d1ULL
#define SLUICE_HASH_4 0x082efa98ec4e6c89ULL
#define SLUICE_HASH_5 0x452821e638d01377ULL
#define SLUICE_HASH_6 0xbe5466cf34e90c6dULL
#define SLUICE_HASH_7 0xc0ac29b7c97c50ddULL
#define SLUICE_HASH_8 0x3f84d5b5b5470917ULL

/* Half of an address. In the order of its bytes the ones that differ most come last; they must be the low
 * ones of the number, or the product would lose them. */
SLUICE_INLINE __u64 sluice_addr_number(const struct sluice_addr *addr, int half)
{
#ifdef __bpf__	/* byte by byte, if it were copied: the compiler cannot know that it is at a multiple of eight */
	typedef __u64 __attribute__((may_alias)) word64;

	return __builtin_bswap64(((const word64 *)addr)[half]);
#else
	__u64 word;

	__builtin_memcpy(&word, addr->bytes + 8 * half, sizeof(word));
	return __builtin_bswap64(word);
#endif
}

SLUICE_INLINE __u64 sluice_hash(const struct sluice_addr *a, const struct sluice_addr *b, __u64 rest)
{
	return sluice_addr_number(a, 0) * SLUICE_HASH_1 + sluice_addr_number(a, 1) * SLUICE_HASH_2 +
	       sluice_addr_number(b, 0) * SLUICE_HASH_3 + sluice_addr_number(b, 1) * SLUICE_HASH_4 +
	       rest * SLUICE_HASH_5;
}

/* Nobody outside knows `secret`, so that nobody can aim at a place of the table or at another's seal. */
SLUICE_INLINE __u64 sluice_ct_hash(const struct sluice_ct_key *key, const __u64 *secret)
{
	__u64 rest;

	__builtin_memcpy(&rest, key->port_be, sizeof(rest));
	return sluice_addr_number(&key->addr[0], 0) * secret[0] + sluice_addr_number(&key->addr[0], 1) * secret[1] +
	       sluice_addr_number(&key->addr[1], 0) * secret[2] + sluice_addr_number(&key->addr[1], 1) * secret[3] +
	       rest * secret[4];
}

/* `hash`: sluice_ct_hash() of the entry's key. */
SLUICE_INLINE __u64 sluice_ct_seal(__u64 hash, const struct sluice_ct_nat *nat)
{
	__u64 rest;

	__builtin_memcpy(&rest, &nat->port_be, sizeof(rest));
	return hash + sluice_addr_number(&nat->addr, 0) * SLUICE_HASH_6 +
	       sluice_addr_number(&nat->addr, 1) * SLUICE_HASH_7 + rest * SLUICE_HASH_8;
}

/* A stamp (see struct sluice_live) as the entry with this seal holds it. */
SLUICE_INLINE __u64 sluice_ct_stamp(__u64 seal, __u64 stamp)
{
	return seal + stamp;
}

#define SLUICE_CT_PROGRESS_MASK 0xffU	/* above it, the upper bits of the seal */

SLUICE_INLINE __u32 sluice_ct_progress_word(__u64 seal, __u32 progress)
{
	return ((__u32)(seal >> 32) & ~SLUICE_CT_PROGRESS_MASK) | progress;
}

/* Progress that is not of the connection with this seal is unknown: taken for the one that lives longest. */
SLUICE_INLINE __u32 sluice_ct_progress(__u64 seal, __u32 word)
{
	if ((word ^ (__u32)(seal >> 32)) & ~SLUICE_CT_PROGRESS_MASK)
		return SLUICE_CT_REPLIED | SLUICE_CT_ASSURED;
	return word & SLUICE_CT_PROGRESS_MASK;
}

#define SLUICE_NS_PER_S 1000000000ULL
#define SLUICE_CT_RENEW_NS SLUICE_NS_PER_S
/* Idle lifetimes, in seconds. */
enum {
	SLUICE_CT_TCP_NEW_S = 60,
	SLUICE_CT_TCP_ESTABLISHED_S = 86400,
	/* Closed by both ends: one of them remembers the tuple (RFC 9293, 3.3.2). Linux does for 60 s, and up to some seconds
	 * more: its timers are coarse. Other systems do for longer. */
	SLUICE_CT_TCP_TIME_WAIT_S = 120,
	SLUICE_CT_TCP_CLOSED_S = 10,	/* reset; and TIME_WAIT where room is short */
	SLUICE_CT_UDP_NEW_S = 30,	/* UDP as Linux has it: nf_conntrack_udp_timeout, and _stream */
	SLUICE_CT_UDP_LASTING_S = 120,
	SLUICE_CT_UDP_ANSWERED_S = 10,	/* one exchange, of DNS for example, where room is short */
	SLUICE_CT_ICMP_S = 30,
	SLUICE_CT_OTHER_S = 300,
};

/* Closed, and not by a reset? */
SLUICE_INLINE int sluice_ct_time_wait(__u32 progress)
{
	const __u32 both = SLUICE_CT_FIN_ORIGIN | SLUICE_CT_FIN_REPLY;

	return progress & SLUICE_CT_CLOSED && (progress & both) == both;
}

/* Idle lifetime of an entry. 1, 6, 17, 58: IANA protocol numbers of ICMP, TCP, UDP, ICMPv6. */
SLUICE_INLINE __u64 sluice_ct_lifetime_ns(__u8 proto, __u32 progress)
{
	__u64 seconds = SLUICE_CT_OTHER_S;

	if (proto == 6)
		seconds = sluice_ct_time_wait(progress)	 ? SLUICE_CT_TCP_TIME_WAIT_S :
			  (progress & (SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED)) == SLUICE_CT_CLOSED ?
							   SLUICE_CT_TCP_CLOSED_S :
			  progress & SLUICE_CT_ASSURED	 ? SLUICE_CT_TCP_ESTABLISHED_S :
							   SLUICE_CT_TCP_NEW_S;
	else if (proto == 17)
		seconds = progress & SLUICE_CT_ASSURED ? SLUICE_CT_UDP_LASTING_S : SLUICE_CT_UDP_NEW_S;
	else if (proto == 1 || proto == 58)
		seconds = SLUICE_CT_ICMP_S;
	return seconds * SLUICE_NS_PER_S;
}

/* The same where room is short: what is closed or answered is over soon. */
SLUICE_INLINE __u64 sluice_ct_short_lifetime_ns(__u8 proto, __u32 progress)
{
	if (proto == 6 && progress & SLUICE_CT_CLOSED)
		return SLUICE_CT_TCP_CLOSED_S * SLUICE_NS_PER_S;
	if (proto == 17 && (progress & (SLUICE_CT_REPLIED | SLUICE_CT_ASSURED)) == SLUICE_CT_REPLIED)
		return SLUICE_CT_UDP_ANSWERED_S * SLUICE_NS_PER_S;
	return sluice_ct_lifetime_ns(proto, progress);
}

/*
 * `fragments`: LRU_HASH. What a datagram's first fragment, once it has been sent on, tells those that follow (RFC 791, 3.2).
 * And the identifications that this node has given to datagrams whose source it translated: senders that share an address
 * must not use one at a time, or the receiver would put together what belongs to two of them (RFC 6864, 5.3.1).
 */
enum sluice_fragment_view {
	SLUICE_FRAGMENT_ARRIVED = 0,	/* src, dst and id as the fragments arrive */
	SLUICE_FRAGMENT_GIVEN = 1,	/* as the receiver sees them; only seen_ns has a meaning */
};

struct sluice_fragment_key {
	struct sluice_addr src;
	struct sluice_addr dst;
	__u32 id;		/* IPv4: identification, host order */
	__u8 proto;
	__u8 view;		/* enum sluice_fragment_view */
	__u8 pad[2];
} __attribute__((aligned(8)));

struct sluice_fragment_ports {
	__be16 sport_be;
	__be16 dport_be;
	__u16 given_id;		/* identification that the receiver sees, host order, if the source is translated */
	__u16 pad;
};

struct sluice_fragment {
	__u64 seen_ns;
	struct sluice_fragment_ports first;
	__u64 seal;		/* sluice_fragment_seal(): lib/sealed.h tells why */
};

SLUICE_INLINE __u64 sluice_fragment_seal(const struct sluice_fragment_key *key, const struct sluice_fragment_ports *first)
{
	__u64 id_and_proto, ports;

	__builtin_memcpy(&id_and_proto, &key->id, sizeof(id_and_proto));
	__builtin_memcpy(&ports, first, sizeof(ports));
	return sluice_hash(&key->src, &key->dst, id_and_proto) + ports * SLUICE_HASH_6;
}

/* ---- Services --------------------------------------------------------------------------- */
enum sluice_service_scope {	/* where the packet comes from */
	SLUICE_SCOPE_INSIDE = 0,	/* pods, the node itself */
	SLUICE_SCOPE_OUTSIDE = 1,	/* other nodes and the world, by an uplink */
};

struct sluice_service_key {	/* `services`: HASH */
	struct sluice_addr addr;
	__be16 port_be;
	__u8 proto;
	__u8 scope;		/* enum sluice_service_scope */
	__u32 pad;
};

enum sluice_service_flags {
	SLUICE_SERVICE_MASQUERADE = 1 << 0,	/* the backend sees the node as the client */
	SLUICE_SERVICE_SILENT = 1 << 1,		/* without a backend: dropped, not refused */
	SLUICE_SERVICE_RANDOM = 1 << 2,		/* a connection's slot is another one from minute to minute */
	SLUICE_SERVICE_LOOPBACK = 1 << 3,	/* the node's processes reach it on 127.0.0.0/8 as well: node ports, hostPorts */
};

/* A connection's backend is `service_slots`[first + hash % count]. A new choice is written into slots that nothing
 * refers to, then this entry is replaced. */
struct sluice_service {
	__u64 seal;		/* sluice_service_seal() */
	__u32 first;
	__u32 count;		/* 0: there is no backend */
	__u32 flags;		/* enum sluice_service_flags */
	__u32 affinity_s;	/* how long a client keeps its backend after its last connection; 0: it has none */
	__u64 id;		/* of the Service's port, if it has affinity: all frontends and daemons give the same */
	__u64 sources;		/* the set of prefixes of which a client must be; 0: any */
};

/* `service_slots`: ARRAY -> backend id (__u32). `backends`: ARRAY by backend id; neither is written while something
 * refers to it, nor until every packet that may have read the reference has left the programs. */
struct sluice_backend {
	struct sluice_addr addr;
	__be16 port_be;
	__u8 pad[6];
};

SLUICE_INLINE __u64 sluice_service_seal(const struct sluice_service_key *key, const struct sluice_service *service)
{
	__u64 rest;

	__builtin_memcpy(&rest, &key->port_be, sizeof(rest));
	return sluice_addr_number(&key->addr, 0) * SLUICE_HASH_1 + sluice_addr_number(&key->addr, 1) * SLUICE_HASH_2 +
	       rest * SLUICE_HASH_3 + (service->first | (__u64)service->affinity_s << 32) * SLUICE_HASH_4 +
	       (service->count | (__u64)service->flags << 32) * SLUICE_HASH_5 + service->id * SLUICE_HASH_6 +
	       service->sources * SLUICE_HASH_7;
}

/* `service_addresses`: LPM_TRIE, struct sluice_route_key, the addresses that belong to Services, whatever the port; without a
 * meaning of the value (__u32). */

/* `service_sources`: LPM_TRIE, the prefixes of each set; without a meaning of the value (__u32). A set's number is a
 * hash of what is in it, so a set never changes: a Service that gets other ranges refers to another set. */
struct sluice_source_key {
	__u32 prefix_len;	/* bits: 64 + those of the prefix, of 128 */
	__u32 sources[2];	/* struct sluice_service.sources, low half first */
	struct sluice_addr addr;
};
#define SLUICE_SOURCE_SET_BITS 64

/* `affine`: HASH, the backends (key) that a Service with affinity has now; without a meaning of the value (__u32). */
struct sluice_affine_key {
	__u64 service;		/* struct sluice_service.id */
	__u32 backend;
	__u32 pad;
};

struct sluice_affinity_key {	/* `affinities`: LRU_HASH */
	struct sluice_addr client;
	__u64 service;
};

struct sluice_affinity {
	__u64 seen_ns;		/* the client's last new connection */
	__u32 backend;
	__u32 seal;		/* sluice_affinity_seal() */
};

SLUICE_INLINE __u32 sluice_affinity_seal(const struct sluice_affinity_key *key, __u32 backend)
{
	return (__u32)((sluice_addr_number(&key->client, 0) * SLUICE_HASH_1 +
			sluice_addr_number(&key->client, 1) * SLUICE_HASH_2 + key->service * SLUICE_HASH_3 +
			backend * SLUICE_HASH_4) >> 32);
}

/* `socket_peers`: LRU_HASH. What a socket of the node took for the other end before its address was translated; to
 * name it so towards the program. */
struct sluice_socket_peer_key {
	__u64 cookie;		/* the socket's */
	__be32 backend_be;
	__be16 port_be;
	__u16 proto;
};

struct sluice_socket_peer {
	__be32 service_be;
	__be16 port_be;
	__u16 pad;
	__u64 seal;		/* sluice_socket_peer_seal() */
};

SLUICE_INLINE __u64 sluice_socket_peer_seal(const struct sluice_socket_peer_key *key, __be32 service_be,
					    __be16 port_be)
{
	return key->cookie * SLUICE_HASH_1 +
	       (key->backend_be | (__u64)key->port_be << 32 | (__u64)key->proto << 48) * SLUICE_HASH_2 +
	       (service_be | (__u64)port_be << 32) * SLUICE_HASH_3;
}

/* ---- endpoints, the bridge's and the router's tables ------------------------------------ */
enum sluice_endpoint_flags {
	SLUICE_ENDPOINT_QUEUED = 1 << 0,	/* its link has a qdisc that packets to the pod must go through */
	SLUICE_ENDPOINT_KEEPS_SOURCE = 1 << 1,	/* leaves the cluster under its own address */
};

struct sluice_endpoint {	/* `endpoints`: ARRAY by endpoint id */
	struct sluice_addr ipv4;	/* all zero: none */
	struct sluice_addr ipv6;
	__u32 ifindex;		/* host side of the veth; 0: no such endpoint */
	__u8 mac[6];		/* of the pod's interface */
	__u16 flags;		/* enum sluice_endpoint_flags */
};

struct sluice_iface_key {	/* `ifaces`: HASH, host-side ifindex -> endpoint id (__u32) */
	__u32 ifindex;
};

struct sluice_mac_key {		/* `macs`: HASH, pod's MAC -> endpoint id (__u32) */
	__u8 mac[6];
	__u8 pad[2];
};

/* `locals`: HASH, struct sluice_addr of a pod of this node -> endpoint id (__u32) */

enum sluice_route_kind {
	SLUICE_ROUTE_WORLD = 0,		/* nothing found: leaves the cluster by an uplink, masqueraded */
	SLUICE_ROUTE_PODS = 1,		/* this node's podCIDR: only `locals` has addresses in it */
	SLUICE_ROUTE_HOST = 2,		/* an address of this node: to the stack */
	SLUICE_ROUTE_TUNNEL = 3,	/* podCIDR of another node */
	SLUICE_ROUTE_NODE = 4,		/* address of another node: pods reach it masqueraded */
	SLUICE_ROUTE_WORLD_BARE = 5,	/* as WORLD, but pods keep their address */
};

struct sluice_route_key {	/* `routes`: LPM_TRIE */
	__u32 prefix_len;	/* bits, of the 128 */
	struct sluice_addr addr;
};

struct sluice_route {
	__u32 kind;		/* enum sluice_route_kind */
	__be32 tunnel_be;	/* TUNNEL, NODE: the node's address, IPv4 underlay */
};

/* ---- the ways out of the node ---------------------------------------------------------------- */
enum sluice_uplink_flags {
	SLUICE_UPLINK_ETHERNET = 1 << 0,	/* its frames have Ethernet headers */
	SLUICE_UPLINK_UNDERLAY = 1 << 1,	/* leads to the other nodes: the modules take the tunnel's packets here alone */
};

/* `uplinks`: HASH, ifindex (__u32) ->. One word, which is read at once and tells whose it is: the element may be another
 * interface's by now. */
struct sluice_uplink {
	__u32 ifindex;
	__u8 number;		/* of the masquerade address of what leaves by it */
	__u8 flags;		/* enum sluice_uplink_flags */
	__u8 pad[2];
} __attribute__((aligned(8)));

/* `masquerade_addresses`: ARRAY of struct sluice_addr by number, all under which this node masqueraded since it booted. A
 * connection refers to its address by the number, so a number gets another address only when no connection has it. */

/* ---- the tunnel, as the modules write it ------------------------------------------------------- */
/* `tunnel_flows`: ARRAY by source port modulo SLUICE_TUNNEL_FLOWS, when (2^20 ns) the flow last had a packet that is
 * the VXLAN device's (__u32). */

struct sluice_tunnel_hop {	/* `tunnel_hops`: PERCPU_ARRAY by flow, the FIB's answer of a moment ago */
	__be32 node_be;
	__be32 next_hop_be;
	__u32 ifindex;		/* of the uplink */
	__u32 asked;		/* 2^20 ns */
	__be16 source_be;	/* UDP source port */
	__u16 fits;		/* IPv4 packets of that size */
};

/* ---- ICMP errors of this node -------------------------------------------------------------------- */
enum {
	SLUICE_ANSWERS_PER_S = 1000,
	SLUICE_ANSWERS_AT_ONCE = 50,
};

struct sluice_answers {		/* `answers_left`: ARRAY by the sender's endpoint id; 0: all that are no pods of this node */
	__u64 counted_ns;
	__u64 left;
};

/* ---- configuration ----------------------------------------------------------------------- */
enum sluice_monitor_flags {
	SLUICE_MONITOR_DROPS = 1 << 0,
	SLUICE_MONITOR_VERDICTS = 1 << 1,
};

struct sluice_config {		/* `config`: ARRAY of one */
	struct sluice_addr node_ipv4;	/* its InternalIP, as other nodes know it; all zero: no uplink */
	struct sluice_addr gateway_ipv4;
	/* Masquerade address of what the node's own stack serves, if the stack would answer past us otherwise: the
	 * podCIDR's own, which no pod has and which the stack routes to sluice_host. */
	struct sluice_addr local_snat_ipv4;
	__u64 netns_cookie;	/* the node's network namespace; 0: the kernel's first one (before Linux 5.14) */
	__u32 host_ifindex;	/* sluice_host: the stack's side */
	__u32 net_ifindex;	/* sluice_net: our side of it */
	__u32 vxlan_ifindex;
	__u32 uplinks;		/* how many there are */
	__u32 vni;
	__u32 monitor;		/* enum sluice_monitor_flags */
	__u32 conntrack_groups;	/* elements of the map */
	__u8 gateway_mac[6];	/* of sluice_host, and of the gateway as pods see it */
	__u16 snat_port_min;	/* masquerade ports, host byte order */
	__u16 snat_port_max;
	__be16 tunnel_port_be;	/* of VXLAN packets that the modules write and read; 0: none, its device does */
	__be16 vxlan_port_be;	/* of all nodes' tunnel, whoever writes and reads its packets */
	/* In `masquerade_addresses`: */
	__u8 node_number;	/* of node_ipv4 */
	__u8 local_number;	/* of local_snat_ipv4 */
	__u8 ways_differ;	/* 1: what leaves by some uplink has another address than node_ipv4 */
	__u8 pad[3];
	__u64 conntrack_secret[5];	/* odd; for as long as there is the table */
};

/* `live`: ARRAY of one, BPF_F_MMAPABLE. What an established connection's stamp must equal to
 * skip the firewall. generation in the upper half, epoch in the lower: a new generation starts
 * at epoch 0, pod churn within it (an address that changes its class) counts the epoch up. */
struct sluice_live {
	__u64 stamp;
};
#define SLUICE_STAMP(generation, epoch) (((__u64)(generation) << 32) | (__u32)(epoch))
#define SLUICE_STAMP_GENERATION(stamp) ((__u32)((stamp) >> 32))

/* ---- firewall ------------------------------------------------------------------------------ */
/* `generation` (one ARRAY for each firewall program, not shared): endpoint id -> what it admits. */
enum sluice_policy_flags {
	SLUICE_POLICY_VALID = 1 << 0,		/* without it, every packet of the endpoint is dropped */
	SLUICE_POLICY_ISOLATED_INGRESS = 1 << 1,
	SLUICE_POLICY_ISOLATED_EGRESS = 1 << 2,
};

enum sluice_direction { SLUICE_INGRESS = 0, SLUICE_EGRESS = 1 };

/* The ports of one protocol that have a class other than 0. */
struct sluice_port_run {
	__u32 first;		/* protocol << 16 | first port */
	__u16 more;		/* ports after it */
	__u16 port_class;	/* 0: unused */
};

/* An endpoint's own class as a peer of others: what `peers` says of its address. It is written while programs
 * read it, and believed only if both words agree; else the address is asked for. */
struct sluice_own_class {
	__u32 peer_class;
	__u32 inverted;		/* ~peer_class */
};

/* Ports have their class by port_runs, which overlap nowhere; those of rules that would need more than
 * SLUICE_PORT_RUNS, by a port table. */
struct sluice_policy {
	__u32 table[2];		/* [direction]; meaningful when isolated in it */
	__u32 ports[2];		/* [direction] port table; 0: none, port_runs tell */
	__u32 flags;		/* enum sluice_policy_flags */
	__u32 pad;
	struct sluice_own_class own;
	struct sluice_port_run port_runs[2][SLUICE_PORT_RUNS];
};

/* `peer_blocks`: LPM_TRIE, struct sluice_route_key -> class ids, one for each generation slot, for addresses
 * not in `peers`. */
struct sluice_peer_block {
	__u32 peer_class[SLUICE_GENERATION_SLOTS];	/* 0: matched by no selector and no block */
};

/* `peers`: HASH, struct sluice_addr -> the same, each bound to the address. A hit is final.
 * That is its seal (lib/sealed.h): the class of another address must not be taken for this one's. */
struct sluice_peer {
	__u64 bound_class[SLUICE_GENERATION_SLOTS];	/* sluice_peer_bind() */
};

#define SLUICE_NO_CLASS 0xffffffffU	/* what another address's element tells; in `tables`: every class without a row */

SLUICE_INLINE __u64 sluice_peer_bind(const struct sluice_addr *addr, __u32 peer_class)
{
	__u64 hash = sluice_addr_number(addr, 0) * SLUICE_HASH_1 +
		     sluice_addr_number(addr, 1) * SLUICE_HASH_2;

	return (hash & ~0xffffffffULL) | peer_class;
}

struct sluice_row_key {		/* `tables`: HASH */
	__u32 table;
	__u32 peer_class;
	__u32 page;		/* port class / SLUICE_ROW_BITS */
};
#define SLUICE_ROW_BITS 256
struct sluice_row {
	__u64 bits[SLUICE_ROW_BITS / 64];	/* bit n: port class page * SLUICE_ROW_BITS + n is admitted */
};

struct sluice_port_key {	/* `port_classes`: LPM_TRIE -> port class (__u32); a miss is class 0 */
	__u32 prefix_len;	/* bits: 40 + prefix of the port */
	__u32 table_be;		/* port table, network order so that the trie compares whole numbers */
	__u8 proto;
	__u8 port_be[2];	/* byte array: keeps the key free of padding between proto and port */
	__u8 pad;
};
#define SLUICE_PORT_KEY_BITS 56

/* Counters of one generation, `generation_stats`: PERCPU_ARRAY by slot. */
struct sluice_generation_stats {
	__u64 judged;
	__u64 allowed;
	__u64 denied_ingress;
	__u64 denied_egress;
	__u64 rejudged;		/* of judged: packets of a connection that an earlier stamp had admitted */
};

/* ---- the packet context ------------------------------------------------------------------------ */
enum sluice_ct_state {
	SLUICE_STATE_NEW = 0,
	SLUICE_STATE_ESTABLISHED = 1,	/* conntrack has it */
	SLUICE_STATE_RELATED = 2,	/* ICMP error about a connection that conntrack has */
};

enum sluice_packet_flags {
	SLUICE_PKT_REPLY = 1 << 0,		/* runs against the connection's original direction */
	SLUICE_PKT_ADMITTED = 1 << 1,		/* the live stamp admitted the connection: skips the firewall */
	SLUICE_PKT_OWN_NODE = 1 << 2,		/* one end is this node itself: NetworkPolicy does not apply */
	SLUICE_PKT_FRAGMENT_LATER = 1 << 3,	/* no L4 header in this packet */
	SLUICE_PKT_FRAGMENT_FIRST = 1 << 4,
	SLUICE_PKT_ICMP_ERROR = 1 << 5,
	SLUICE_PKT_MASQUERADE = 1 << 6,		/* nat_commit translates the source */
	SLUICE_PKT_TCP_SYN = 1 << 7,		/* SYN without ACK */
	SLUICE_PKT_TCP_FIN = 1 << 8,
	SLUICE_PKT_TCP_RST = 1 << 9,
	SLUICE_PKT_ROUTED = 1 << 10,		/* `route` is filled in */
	SLUICE_PKT_TRANSLATED = 1 << 11,	/* nat rewrote the destination of this packet */
	SLUICE_PKT_BRIDGED = 1 << 12,		/* addressed within the pod segment: bridge, not router */
	SLUICE_PKT_STACK = 1 << 13,		/* goes to the node's stack, wherever it is for */
	SLUICE_PKT_SERVICE = 1 << 14,		/* NEW, to front_addr:front_port_be; dst is the backend chosen */
	SLUICE_PKT_UNSERVICE = 1 << 15,		/* reply of a backend: nat_commit puts the Service in its place */
	SLUICE_PKT_ICMP_REQUEST = 1 << 16,	/* asks for an answer, so it is none */
	SLUICE_PKT_BY_ITSELF = 1 << 17,		/* of REPLY: its connection is denied; judged as if there were none */
};

enum sluice_output {
	SLUICE_OUTPUT_NONE = 0,		/* still undecided: deliver drops */
	SLUICE_OUTPUT_POD = 1,		/* endpoint dst_endpoint, by redirect_peer */
	SLUICE_OUTPUT_HOST = 2,		/* the node's stack, as if received on sluice_host */
	SLUICE_OUTPUT_TUNNEL = 3,	/* to node tunnel_be */
	SLUICE_OUTPUT_UPLINK = 4,	/* next hop of the node's FIB */
};

struct sluice_packet {
	/* Tuple as this packet runs, after destination translation: what policy sees. */
	struct sluice_addr src;
	struct sluice_addr dst;
	__be16 sport_be;
	__be16 dport_be;
	__u8 proto;
	__u8 hook;		/* enum sluice_hook */
	__u8 state;		/* enum sluice_ct_state */
	__u8 output;		/* enum sluice_output */
	__u32 flags;		/* enum sluice_packet_flags */
	__u32 src_endpoint;	/* 0: not a pod of this node */
	__u32 dst_endpoint;
	__u16 l3_offset;	/* from the start of the frame; 14 */
	__u16 l4_offset;
	__u32 next;		/* module after the firewall: NAT_COMMIT or DELIVER */
	__u32 firewall;		/* module that judges: FIREWALL, or CANDIDATE for a probe */
	struct sluice_route route;
	/* The connection that is judged, original direction; filled in by nat when state is
	 * RELATED, else derived from the above by the firewall. */
	struct sluice_addr related_src;
	struct sluice_addr related_dst;
	__be16 related_sport_be;
	__be16 related_dport_be;
	__u8 related_proto;
	__u8 masquerade_number;	/* of a packet that opens a masqueraded connection: its address's */
	__u8 pad[2];
	__u32 related_src_endpoint;
	__u32 related_dst_endpoint;
	struct sluice_ct_key ct_key;	/* of the connection's main entry */
	/* What nat_commit makes of the source, and of the destination's port: */
	struct sluice_addr nat_addr;	/* MASQUERADE: an address of the node, UNSERVICE: the Service */
	__be16 nat_port_be;
	__be16 client_port_be;	/* UNSERVICE: the originator's own */
	__u16 verdict;		/* enum sluice_drop_reason, the firewall's (NONE: allowed) or why `refuse` gets the packet */
	__u16 ports_tried;	/* by nat_commit, of the originator's */
	struct sluice_addr front_addr;
	__be16 front_port_be;
	__u16 mtu;		/* TOO_BIG: what the way takes */
	__u32 ct_place;		/* of the connection's main entry, once it exists: group << SLUICE_CT_PLACE_BITS, + index */
	__u64 ct_seal;		/* the entry's */
	__u64 stamp;		/* stamp under which the firewall judged */
	__u64 now_ns;		/* read once a tick of the kernel, which this CPU's next packets share */
	__u64 tick;		/* in which it was read, in jiffies */
	/* Of a fragment: its datagram, and what is known of it by the first one. As it arrived. */
	struct sluice_fragment_key fragment;
	struct sluice_fragment_ports fragment_first;
};

/* What `probe` reads from the packet data of BPF_PROG_TEST_RUN: 14 bytes of Ethernet header that
 * it ignores, then this. It returns 0x100 + enum sluice_drop_reason (NONE: allowed) or, when the
 * input is short or the candidate's slot is empty, 0. */
struct sluice_probe {
	struct sluice_addr src;
	struct sluice_addr dst;
	__be16 sport_be;
	__be16 dport_be;
	__u8 proto;
	__u8 own_node;		/* 1: SLUICE_PKT_OWN_NODE */
	__u8 reply;		/* 1: the packet is the reply; src and dst are as the packet runs */
	__u8 pad;
	__u32 src_endpoint;
	__u32 dst_endpoint;
	__u32 module;		/* FIREWALL or CANDIDATE */
};
#define SLUICE_PROBE_RESULT 0x100

/* What `sweep` reads from the packet data of BPF_PROG_TEST_RUN, behind 14 bytes of Ethernet header that it ignores:
 * SLUICE_SWEEP_MOST of these at most. An entry is removed, and `removed` becomes 1, if it is as user space read it. */
struct sluice_sweep {
	__u32 set;		/* group * SLUICE_CT_GROUP_SETS + set */
	__u16 way;
	__u16 removed;
	__u64 seal;
	__u64 last_seen_ns;	/* 0: whenever it was */
};
#define SLUICE_SWEEP_MOST 64

/* ---- counters ------------------------------------------------------------------------------------ */
/* Invariant: sum(in) = delivered + to_stack + out_tunnel + out_uplink + answered + sum(drops).
 * Probes are in none of them. */
struct sluice_stats {
	__u64 in[8];		/* enum sluice_hook */
	__u64 delivered;	/* to a pod */
	__u64 to_stack;
	__u64 out_tunnel;
	__u64 out_uplink;
	__u64 answered;		/* turned into a reply to the pod that sent it: ARP, an ICMP error */
	__u64 direct_in;	/* of in[OVERLAY]: found at the uplink, not received from the VXLAN device */
	__u64 direct_out;	/* of out_tunnel: sent by the uplink, not by the device */
	__u64 drops[SLUICE_DROP_SLOTS];
	__u64 module_packets[SLUICE_MODULE_SLOTS];
};

/* What a CPU has of its own, `packet`: PERCPU_ARRAY of one. Together, so that one lookup gives both. */
struct sluice_cpu {
	struct sluice_packet packet;
	struct sluice_stats stats;
};

/* ---- events: `events`, RINGBUF ---------------------------------------------------------------------- */
enum sluice_event_kind { SLUICE_EVENT_DROP = 1, SLUICE_EVENT_VERDICT = 2 };

struct sluice_event {
	__u64 time_ns;
	struct sluice_addr src;
	struct sluice_addr dst;
	__be16 sport_be;
	__be16 dport_be;
	__u8 proto;
	__u8 kind;		/* enum sluice_event_kind */
	__u8 hook;
	__u8 module;		/* that reports */
	__u32 src_endpoint;
	__u32 dst_endpoint;
	__u32 generation;	/* verdicts; else 0 */
	__u32 length;		/* bytes of the packet */
	__u16 reason;		/* enum sluice_drop_reason; NONE: allowed */
	__u16 ifindex_low;	/* low bits of the ingress ifindex, to tell interfaces apart */
	__u32 pad;
};

/* What is loaded in each slot, `module_info`: ARRAY by enum sluice_module. Tells a restarted daemon
 * that a pinned program is the very code it carries. */
struct sluice_module_info {
	__u64 code_hash;	/* FNV-1a of the object file */
	__u32 prog_id;
	__u32 pad;
};

SLUICE_ASSERT(sizeof(struct sluice_addr) == 16, "sluice_addr");
SLUICE_ASSERT(sizeof(struct sluice_ct_key) == 40, "sluice_ct_key");
SLUICE_ASSERT(sizeof(struct sluice_ct_nat) == 24, "sluice_ct_nat");
SLUICE_ASSERT(sizeof(struct sluice_ct_entry) == 56, "sluice_ct_entry");
SLUICE_ASSERT(sizeof(struct sluice_ct_group) == 8256, "sluice_ct_group");
SLUICE_ASSERT(sizeof(struct sluice_ct_pool) == SLUICE_CT_POOL * 96, "sluice_ct_pool");
SLUICE_ASSERT(sizeof(struct sluice_fragment_key) == 40, "sluice_fragment_key");
SLUICE_ASSERT(sizeof(struct sluice_fragment) == 24, "sluice_fragment");
SLUICE_ASSERT(sizeof(struct sluice_service_key) == 24, "sluice_service_key");
SLUICE_ASSERT(sizeof(struct sluice_service) == 40, "sluice_service");
SLUICE_ASSERT(sizeof(struct sluice_source_key) == 28, "sluice_source_key");
SLUICE_ASSERT(sizeof(struct sluice_affine_key) == 16, "sluice_affine_key");
SLUICE_ASSERT(sizeof(struct sluice_affinity_key) == 24, "sluice_affinity_key");
SLUICE_ASSERT(sizeof(struct sluice_affinity) == 16, "sluice_affinity");
SLUICE_ASSERT(sizeof(struct sluice_backend) == 24, "sluice_backend");
SLUICE_ASSERT(sizeof(struct sluice_socket_peer_key) == 16, "sluice_socket_peer_key");
SLUICE_ASSERT(sizeof(struct sluice_socket_peer) == 16, "sluice_socket_peer");
SLUICE_ASSERT(sizeof(struct sluice_endpoint) == 44, "sluice_endpoint");
SLUICE_ASSERT(sizeof(struct sluice_mac_key) == 8, "sluice_mac_key");
SLUICE_ASSERT(sizeof(struct sluice_route_key) == 20, "sluice_route_key");
SLUICE_ASSERT(sizeof(struct sluice_route) == 8, "sluice_route");
SLUICE_ASSERT(sizeof(struct sluice_uplink) == 8, "sluice_uplink");
SLUICE_ASSERT(sizeof(struct sluice_tunnel_hop) == 20, "sluice_tunnel_hop");
SLUICE_ASSERT(sizeof(struct sluice_answers) == 16, "sluice_answers");
SLUICE_ASSERT(sizeof(struct sluice_config) == 144, "sluice_config");
SLUICE_ASSERT(sizeof(struct sluice_live) == 8, "sluice_live");
SLUICE_ASSERT(sizeof(struct sluice_port_run) == 8, "sluice_port_run");
SLUICE_ASSERT(sizeof(struct sluice_own_class) == 8, "sluice_own_class");
SLUICE_ASSERT(sizeof(struct sluice_policy) == 160, "sluice_policy");
SLUICE_ASSERT(sizeof(struct sluice_peer_block) == 16, "sluice_peer_block");
SLUICE_ASSERT(sizeof(struct sluice_peer) == 32, "sluice_peer");
SLUICE_ASSERT(sizeof(struct sluice_row_key) == 12, "sluice_row_key");
SLUICE_ASSERT(sizeof(struct sluice_row) == 32, "sluice_row");
SLUICE_ASSERT(sizeof(struct sluice_port_key) == 12, "sluice_port_key");
SLUICE_ASSERT(sizeof(struct sluice_generation_stats) == 40, "sluice_generation_stats");
SLUICE_ASSERT(sizeof(struct sluice_packet) == 288, "sluice_packet");
SLUICE_ASSERT(sizeof(struct sluice_probe) == 52, "sluice_probe");
SLUICE_ASSERT(sizeof(struct sluice_sweep) == 24, "sluice_sweep");
SLUICE_ASSERT(sizeof(struct sluice_event) == 72, "sluice_event");
SLUICE_ASSERT(sizeof(struct sluice_module_info) == 16, "sluice_module_info");
SLUICE_ASSERT(SLUICE_DROP_COUNT <= SLUICE_DROP_SLOTS, "drop reasons");
SLUICE_ASSERT(SLUICE_MODULE_COUNT <= SLUICE_MODULE_SLOTS, "module slots");

#ifdef __cplusplus
}
#endif
#endif
