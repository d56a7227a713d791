/* SPDX-License-Identifier: GPL-2.0-only */
/* Keys, lifetimes and state of connections. */
#ifndef SLUICE_LIB_CONNTRACK_H
#define SLUICE_LIB_CONNTRACK_H

#include <linux/in.h>
#include <stddef.h>

#include "lib/ct_table.h"
#include "lib/sealed.h"

struct tuple {
	const struct sluice_addr *src;
	const struct sluice_addr *dst;
	__be16 sport_be;
	__be16 dport_be;
	__u8 proto;
};

/* Fills in the canonical key. True if the source is addr[1]: same as SLUICE_CT_ORIGIN_HIGH, if the source
 * is the originator. */
static __always_inline bool ct_key_make(struct sluice_ct_key *key, const struct tuple *tuple)
{
	bool low = addr_before(tuple->src, tuple->dst, bpf_ntohs(tuple->sport_be) <= bpf_ntohs(tuple->dport_be));
	word64 *ports_and_proto = (word64 *)&key->port_be;

	if (low) {
		addr_copy(&key->addr[0], tuple->src);
		addr_copy(&key->addr[1], tuple->dst);
		*ports_and_proto = tuple->sport_be | (__u64)tuple->dport_be << 16 | (__u64)tuple->proto << 32;
	} else {
		addr_copy(&key->addr[0], tuple->dst);
		addr_copy(&key->addr[1], tuple->src);
		*ports_and_proto = tuple->dport_be | (__u64)tuple->sport_be << 16 | (__u64)tuple->proto << 32;
	}
	return !low;
}

static __always_inline struct tuple packet_tuple(const struct sluice_packet *pkt)
{
	return (struct tuple){ &pkt->src, &pkt->dst, pkt->sport_be, pkt->dport_be, pkt->proto };
}

/* What an entry tells for certain: copied out of it and found to belong together and to the key. */
struct ct_snapshot {
	struct sluice_ct_entry *entry;
	__u32 place;
	__u64 seal;
	struct sluice_ct_nat ADDR_ON_STACK nat;
};
_Static_assert(offsetof(struct ct_snapshot, nat) == offsetof(struct ct_snapshot, seal) + sizeof(__u64) &&
	       offsetof(struct sluice_ct_entry, nat) == offsetof(struct sluice_ct_entry, seal) + sizeof(__u64),
	       "the seal stands before `nat`");

enum ct_found {
	CT_ABSENT,
	CT_FOUND,
	CT_TORN,	/* what is there is nobody's */
};

/* Of an entry the seal and `nat`, which stand together in both. */
static __always_inline bool ct_copy(struct ct_snapshot *to, __u64 hash)
{
	sealed_copy(&to->seal, &to->entry->seal, sizeof(to->seal) + sizeof(to->nat));
	return to->seal == sluice_ct_seal(hash, &to->nat);
}

/* For a reader who met an entry while it was written. */
static __always_inline enum ct_found ct_find_locked(const struct sluice_config *cfg, const struct sluice_ct_key *key,
						    __u64 hash, struct ct_snapshot *found)
{
	enum ct_found result = CT_ABSENT;
	struct ct_home home;
	struct ct_spot spot;

	if (!ct_home_make(&home, cfg, hash))
		return CT_ABSENT;
	bpf_spin_lock(&home.group->lock);
	ct_spot_find(&spot, &home, key);
	if (spot.pair) {
		found->entry = &spot.pair->entry;
		found->place = home.index << SLUICE_CT_PLACE_BITS | spot.at;
		result = ct_copy(found, hash) ? CT_FOUND : CT_TORN;
	}
	bpf_spin_unlock(&home.group->lock);
	return result;
}

static __always_inline enum ct_found ct_find(const struct sluice_config *cfg, const struct sluice_ct_key *key,
					     struct ct_snapshot *found)
{
	__u64 hash = sluice_ct_hash(key, cfg->conntrack_secret);

	found->entry = ct_lookup(cfg, key, hash, &found->place);
	if (!found->entry)
		return CT_ABSENT;
	return likely(ct_copy(found, hash)) ? CT_FOUND : ct_find_locked(cfg, key, hash, found);
}

static __always_inline __u32 ct_progress(const struct ct_snapshot *ct)
{
	return sluice_ct_progress(ct->seal, *(const volatile __u32 *)&ct->entry->progress);
}

static __always_inline bool ct_idle(const struct ct_snapshot *ct, __u64 now_ns, __u64 for_ns)
{
	/* Signed: another CPU may have renewed the entry after this packet's clock was read. */
	return (__s64)(now_ns - ct->entry->last_seen_ns) > (__s64)for_ns;
}

static __always_inline bool ct_expired(const struct ct_snapshot *ct, __u8 proto, __u64 now_ns)
{
	/* Most were seen just now: no lifetime is shorter. */
	return unlikely(ct_idle(ct, now_ns, SLUICE_CT_TCP_CLOSED_S * SLUICE_NS_PER_S)) &&
	       ct_idle(ct, now_ns, sluice_ct_lifetime_ns(proto, ct_progress(ct)));
}

/* A connection that anybody outside may have closed, or that its originator has closed, is doubtful after so long without
 * a packet; a server that has it answers a SYN at once. */
#define CT_DOUBT_NS (SLUICE_CT_TCP_CLOSED_S * SLUICE_NS_PER_S)
#define CT_HALF_CLOSED_NS (120 * SLUICE_NS_PER_S)
#define CT_ANSWER_NS (800 * 1000000ULL)	/* before the SYN is repeated (RFC 6298, 2.1) */

static __always_inline bool ct_closed(const struct ct_snapshot *ct)
{
	return (ct_progress(ct) & (SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED)) == SLUICE_CT_CLOSED;
}

static __always_inline bool ct_doubtful(const struct ct_snapshot *ct, __u64 now_ns)
{
	__u32 progress = ct_progress(ct);

	return (progress & SLUICE_CT_DOUBTED && ct_idle(ct, now_ns, CT_DOUBT_NS)) ||
	       (progress & SLUICE_CT_FIN_ORIGIN && ct_idle(ct, now_ns, CT_HALF_CLOSED_NS));
}

/* Does the connection, which has not expired, go on although a SYN came? Anybody outside can forge one: its server is
 * asked. If the connection is over for its client, the server's challenge ACK draws a reset, and the SYN that is repeated
 * begins anew. */
static __always_inline bool ct_outlives_syn(const struct ct_snapshot *ct, __u64 now_ns)
{
	__u32 progress = ct_progress(ct);

	return progress & SLUICE_CT_REPLIED && !ct_closed(ct) &&
	       !(progress & SLUICE_CT_ASKED && ct_idle(ct, now_ns, CT_ANSWER_NS));
}

/* The server is being asked by a SYN, from now on. */
static __always_inline void ct_ask(const struct ct_snapshot *ct, __u64 now_ns)
{
	__u32 progress = ct_progress(ct);

	if (progress & SLUICE_CT_ASKED || !ct_doubtful(ct, now_ns))
		return;
	ct->entry->progress = sluice_ct_progress_word(ct->seal, progress | SLUICE_CT_ASKED);
	ct->entry->last_seen_ns = now_ns;
}

/* Did the live generation admit the connection? */
static __always_inline bool ct_admitted(const struct ct_snapshot *ct)
{
	return ct->entry->stamp == sluice_ct_stamp(ct->seal, live_stamp());
}

/* The number of the address that the other end of a masqueraded connection sees. `flags`: enum sluice_ct_flags */
static __always_inline __u8 masquerade_number(__u16 flags)
{
	return flags >> SLUICE_CT_NUMBER_SHIFT;
}

/* Copies the address out; the array has an element for each number. */
static __always_inline void masquerade_addr(struct sluice_addr *addr, __u8 number)
{
	const __u32 index = number;
	const struct sluice_addr *found = bpf_map_lookup_elem(&masquerade_addresses, &index);

	if (found)
		addr_copy(addr, found);
}

/* The outside's tuple of a masqueraded connection. An echo has one identifier for both ports. */
static __always_inline void alias_key_make(struct sluice_ct_key *key, const struct tuple *outside)
{
	struct tuple tuple = *outside;

	if (tuple.proto == IPPROTO_ICMP)
		tuple.dport_be = tuple.sport_be;
	ct_key_make(key, &tuple);
}

/* Could anybody have forged the packet's source? Pods and nodes speak under their own addresses only. */
static __always_inline bool is_from_outside(const struct sluice_packet *pkt)
{
	return pkt->hook == SLUICE_HOOK_UPLINK ||
	       (pkt->hook == SLUICE_HOOK_HOST && !(pkt->flags & SLUICE_PKT_OWN_NODE));
}

static __always_inline __u32 ct_progress_after(const struct ct_snapshot *ct, const struct sluice_packet *pkt)
{
	__u32 progress = ct_progress(ct) & ~SLUICE_CT_ASKED;
	bool reply = pkt->flags & SLUICE_PKT_REPLY, refusal = reply && !(progress & SLUICE_CT_REPLIED);

	/* The end that a reset was for did not take it if the connection goes on. */
	if (progress & SLUICE_CT_CLOSED && !sluice_ct_time_wait(progress))
		progress &= ~(SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED);
	if (progress & SLUICE_CT_REPLIED &&
	    (pkt->proto == IPPROTO_UDP ? ct_idle(ct, pkt->now_ns, SLUICE_CT_RENEW_NS) : !reply))
		progress |= SLUICE_CT_ASSURED;
	if (reply)
		progress |= SLUICE_CT_REPLIED;
	if (pkt->flags & SLUICE_PKT_TCP_FIN)
		progress |= reply ? SLUICE_CT_FIN_REPLY : SLUICE_CT_FIN_ORIGIN;
	if (progress & SLUICE_CT_FIN_ORIGIN && progress & SLUICE_CT_FIN_REPLY)
		progress |= SLUICE_CT_CLOSED;
	else if (pkt->flags & SLUICE_PKT_TCP_RST)
		progress |= is_from_outside(pkt) && !refusal ? SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED : SLUICE_CT_CLOSED;
	return progress;
}

/* Renews the entry and takes note of the packet's part in the connection's life. Two CPUs may lose one
 * another's progress: then the entry only lives longer. Returns whether an alias or a front has to be told. */
static __always_inline bool ct_touch(const struct ct_snapshot *ct, const struct sluice_packet *pkt)
{
	__u32 word = sluice_ct_progress_word(ct->seal, SLUICE_CT_REPLIED | SLUICE_CT_ASSURED);

	/* As most packets find it. */
	if (likely(word == ct->entry->progress && !(pkt->flags & (SLUICE_PKT_TCP_FIN | SLUICE_PKT_TCP_RST)) &&
		   !ct_idle(ct, pkt->now_ns, SLUICE_CT_RENEW_NS)))
		return false;
	word = sluice_ct_progress_word(ct->seal, ct_progress_after(ct, pkt));
	if (word == ct->entry->progress && !ct_idle(ct, pkt->now_ns, SLUICE_CT_RENEW_NS))
		return false;
	ct->entry->progress = word;
	ct->entry->last_seen_ns = pkt->now_ns;
	return ct->nat.flags & (SLUICE_CT_MASQUERADE | SLUICE_CT_SERVICE);
}

/* Another view of the connection lives as long as it does: its port must not be given to another one. */
static __always_inline void view_touch(const struct sluice_config *cfg, const struct ct_snapshot *ct,
				       const struct sluice_ct_key *key, const struct sluice_ct_nat *nat, __u64 now_ns)
{
	__u64 hash = sluice_ct_hash(key, cfg->conntrack_secret), seal = sluice_ct_seal(hash, nat);
	__u32 place;
	struct sluice_ct_entry *view = ct_lookup(cfg, key, hash, &place);

	if (!view || view->seal != seal)
		return;
	view->progress = sluice_ct_progress_word(seal, ct_progress(ct));
	view->last_seen_ns = now_ns;
}

static __always_inline void alias_touch(const struct sluice_config *cfg, const struct ct_snapshot *ct,
					const struct sluice_packet *pkt)
{
	struct sluice_addr ADDR_ON_STACK masquerade = {};
	bool reply = pkt->flags & SLUICE_PKT_REPLY;
	struct sluice_ct_nat ADDR_ON_STACK nat = { .flags = SLUICE_CT_ALIAS };
	struct tuple outside = { &masquerade, reply ? &pkt->src : &pkt->dst, ct->nat.snat_port_be,
				 reply ? pkt->sport_be : pkt->dport_be, pkt->proto };
	struct sluice_ct_key key;

	addr_copy(&nat.addr, reply ? &pkt->dst : &pkt->src);
	nat.port_be = reply ? pkt->dport_be : pkt->sport_be;
	masquerade_addr(&masquerade, masquerade_number(ct->nat.flags));
	alias_key_make(&key, &outside);
	view_touch(cfg, ct, &key, &nat, pkt->now_ns);
}

/* The originator's tuple of a connection to a Service, and what it stands for. `client`, at `port_be` in the main
 * entry's tuple, and `backend` are the ends that policy sees. */
static __always_inline void front_make(struct sluice_ct_key *key, struct sluice_ct_nat *nat,
				       const struct sluice_ct_nat *service, const struct tuple *inside)
{
	struct tuple front = { inside->src, &service->addr, service->client_port_be, service->port_be,
			       inside->proto };

	ct_key_make(key, &front);
	if (addr_equal(&service->addr, inside->dst) && service->port_be == inside->dport_be)
		key->side = SLUICE_CT_OWN_SIDE;
	addr_copy(&nat->addr, inside->dst);
	((word64 *)nat)[2] = inside->dport_be | (__u32)SLUICE_CT_FRONT << 16 | (__u64)inside->sport_be << 32;
}

static __always_inline void front_touch(const struct sluice_config *cfg, const struct ct_snapshot *ct,
					const struct sluice_packet *pkt)
{
	struct tuple inside = packet_tuple(pkt);
	struct sluice_ct_nat ADDR_ON_STACK nat;
	struct sluice_ct_key key;

	if (pkt->flags & SLUICE_PKT_REPLY)
		inside = (struct tuple){ &pkt->dst, &pkt->src, pkt->dport_be, pkt->sport_be, pkt->proto };
	front_make(&key, &nat, &ct->nat, &inside);
	view_touch(cfg, ct, &key, &nat, pkt->now_ns);
}

/* The entry that nat found for the packet. False: another connection has its place meanwhile. */
static __always_inline bool ct_find_again(const struct sluice_config *cfg, const struct sluice_packet *pkt,
					  struct ct_snapshot *found)
{
	struct sluice_ct_pair *pair;
	struct sluice_ct_pool *pool;
	__u32 group;

	found->place = pkt->ct_place;
	group = found->place >> SLUICE_CT_PLACE_BITS;
	pool = bpf_map_lookup_elem(&conntrack, &group);
	pair = pool ? ct_pair(pool, found->place % (1 << SLUICE_CT_PLACE_BITS)) : NULL;
	if (!pair)
		return false;
	found->entry = &pair->entry;
	return ct_copy(found, sluice_ct_hash(&pkt->ct_key, cfg->conntrack_secret)) && found->seal == pkt->ct_seal;
}

/* The connection is admitted anew, in both directions at once. */
static __always_inline void ct_restamp(const struct ct_snapshot *ct, const struct sluice_packet *pkt)
{
	ct->entry->stamp = sluice_ct_stamp(ct->seal, pkt->stamp);
}

#endif
