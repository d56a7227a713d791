/* SPDX-License-Identifier: GPL-2.0-only */
/* Frames into the packet context. Functions return a drop reason, NONE when all is well. */
#ifndef SLUICE_LIB_PARSE_H
#define SLUICE_LIB_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "lib/packet.h"
#include "lib/sealed.h"

/* linux/if_arp.h leaves out the part that depends on the protocols. */
struct arp_ipv4 {
	__be16 hardware_be;
	__be16 protocol_be;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation_be;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
};

#define ARP_HARDWARE_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

/* linux/icmp.h draws in headers of the C library, which there is none of for BPF. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 id_be;		/* of an echo */
	__be16 sequence_be;
};

enum icmp_type {
	ICMP_ECHO_REPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_REDIRECT = 5,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
	ICMP_TIMESTAMP = 13,
	ICMP_INFORMATION = 15,
	ICMP_ADDRESS_MASK = 17,
	ICMP_EXTENDED_ECHO = 42,	/* RFC 8335 */
};

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_FRAGMENT (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)
/* RFC 791 lets a reassembly live this long at least; Linux's ipfrag_time too is 30 s. */
#define FRAGMENT_LIFETIME_NS (30 * SLUICE_NS_PER_S)

/* SCTP (RFC 9260): the ports are where TCP and UDP have them. */
#define SCTP_HEADER 12

static __always_inline void *frame_start(const struct __sk_buff *skb)
{
	return (void *)(long)skb->data;
}

static __always_inline void *frame_end(const struct __sk_buff *skb)
{
	return (void *)(long)skb->data_end;
}

/* Sees to it that the first `length` bytes can be read directly, if the frame has so many. */
static __always_inline void make_linear(struct __sk_buff *skb, __u32 length)
{
	if (unlikely(frame_start(skb) + length > frame_end(skb)))
		bpf_skb_pull_data(skb, length);
}

/* What is needed of an IPv4 header once its addresses are in the context. */
struct ipv4_rest {
	__u32 l4_offset;
	__u32 l4_length;	/* bytes after the IPv4 header, by the header */
	__u32 id;
	__u32 fragment_offset;	/* in units of 8 bytes */
};

static __always_inline __u32 parse_ipv4(struct __sk_buff *skb, struct sluice_packet *pkt,
					struct ipv4_rest *rest)
{
	const struct iphdr *ip;
	__u32 header, total, fragment;

	make_linear(skb, ETH_HLEN + sizeof(*ip));
	ip = frame_start(skb) + ETH_HLEN;
	if ((const void *)(ip + 1) > frame_end(skb))
		return SLUICE_DROP_SHORT_PACKET;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || total < header || ETH_HLEN + total > skb->len)
		return SLUICE_DROP_BAD_HEADER;

	addr_set_v4(&pkt->src, ip->saddr);
	addr_set_v4(&pkt->dst, ip->daddr);
	pkt->proto = ip->protocol;
	pkt->l3_offset = ETH_HLEN;
	pkt->l4_offset = ETH_HLEN + header;

	fragment = bpf_ntohs(ip->frag_off);
	rest->l4_offset = ETH_HLEN + header;
	rest->l4_length = total - header;
	rest->id = bpf_ntohs(ip->id);
	rest->fragment_offset = fragment & IPV4_FRAGMENT_OFFSET;
	if (rest->fragment_offset)
		pkt->flags |= SLUICE_PKT_FRAGMENT_LATER;
	else if (fragment & IPV4_MORE_FRAGMENTS)
		pkt->flags |= SLUICE_PKT_FRAGMENT_FIRST;
	return SLUICE_DROP_NONE;
}

static __always_inline void fragment_note(struct sluice_packet *pkt, const struct ipv4_rest *rest)
{
	struct sluice_fragment_key *key = &pkt->fragment;

	__builtin_memset(key, 0, sizeof(*key));
	key->src = pkt->src;
	key->dst = pkt->dst;
	key->id = rest->id;
	key->proto = pkt->proto;
}

/* What a first fragment is to tell those that follow it. */
static __always_inline void fragment_first_note(struct sluice_packet *pkt)
{
	pkt->fragment_first.sport_be = pkt->sport_be;
	pkt->fragment_first.dport_be = pkt->dport_be;
	pkt->fragment_first.given_id = 0;
	pkt->fragment_first.pad = 0;
}

/* What is known of the datagram's first fragment. False: nothing. */
static __always_inline bool fragment_find(const struct sluice_packet *pkt, struct sluice_fragment *fragment)
{
	const struct sluice_fragment *found = bpf_map_lookup_elem(&fragments, &pkt->fragment);

	return found && sealed_read(fragment, found, sluice_fragment_seal(&pkt->fragment, &fragment->first)) &&
	       pkt->now_ns - fragment->seen_ns <= FRAGMENT_LIFETIME_NS;
}

/* What the datagram's first fragment told, into the context. False: nothing is known of it. */
static __always_inline bool fragment_recall(struct sluice_packet *pkt)
{
	struct sluice_fragment fragment;

	if (!fragment_find(pkt, &fragment))
		return false;
	pkt->fragment_first = fragment.first;
	return true;
}

static __always_inline __u32 parse_later_fragment(struct sluice_packet *pkt, const struct ipv4_rest *rest)
{
	/* It would overlap the TCP header that was judged (RFC 1858, 3). */
	if (rest->fragment_offset == 1 && pkt->proto == IPPROTO_TCP)
		return SLUICE_DROP_BAD_HEADER;
	fragment_note(pkt, rest);
	if (!fragment_recall(pkt))
		return SLUICE_DROP_FRAGMENT_UNKNOWN;
	pkt->sport_be = pkt->fragment_first.sport_be;
	pkt->dport_be = pkt->fragment_first.dport_be;
	return SLUICE_DROP_NONE;
}

static __always_inline void parse_icmp(const struct icmp_header *icmp, struct sluice_packet *pkt)
{
	switch (icmp->type) {
	case ICMP_TIMESTAMP:
	case ICMP_INFORMATION:
	case ICMP_ADDRESS_MASK:
	case ICMP_EXTENDED_ECHO:
		pkt->flags |= SLUICE_PKT_ICMP_REQUEST;
		break;
	case ICMP_ECHO:
		pkt->flags |= SLUICE_PKT_ICMP_REQUEST;
		__attribute__((fallthrough));
	case ICMP_ECHO_REPLY:
		pkt->sport_be = icmp->id_be;
		pkt->dport_be = icmp->id_be;
		break;
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_REDIRECT:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		pkt->flags |= SLUICE_PKT_ICMP_ERROR;
		break;
	}
}

static __always_inline __u32 parse_tcp(const struct tcphdr *tcp, struct sluice_packet *pkt, __u32 length)
{
	__u32 header = tcp->doff * 4;

	if (header < sizeof(*tcp) || header > length)
		return SLUICE_DROP_BAD_HEADER;
	pkt->sport_be = tcp->source;
	pkt->dport_be = tcp->dest;
	if (tcp->syn && !tcp->ack)
		pkt->flags |= SLUICE_PKT_TCP_SYN;
	if (tcp->fin)
		pkt->flags |= SLUICE_PKT_TCP_FIN;
	if (tcp->rst)
		pkt->flags |= SLUICE_PKT_TCP_RST;
	return SLUICE_DROP_NONE;
}

/* A first fragment must hold the whole header, or the rest could change what was judged. */
static __always_inline __u32 parse_l4(struct __sk_buff *skb, struct sluice_packet *pkt,
				      const struct ipv4_rest *rest)
{
	__u32 needed;
	void *l4;

	if (unlikely(pkt->flags & SLUICE_PKT_FRAGMENT_LATER))
		return parse_later_fragment(pkt, rest);
	if (unlikely(pkt->flags & SLUICE_PKT_FRAGMENT_FIRST))
		fragment_note(pkt, rest);
	switch (pkt->proto) {
	case IPPROTO_TCP:
		needed = sizeof(struct tcphdr);
		break;
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
		needed = sizeof(struct udphdr);
		break;
	case IPPROTO_SCTP:
		needed = SCTP_HEADER;
		break;
	default:
		return SLUICE_DROP_NONE;
	}
	if (rest->l4_length < needed)
		return SLUICE_DROP_SHORT_PACKET;
	make_linear(skb, rest->l4_offset + needed);
	l4 = frame_start(skb) + rest->l4_offset;

	if (pkt->proto == IPPROTO_TCP) {
		if (l4 + sizeof(struct tcphdr) > frame_end(skb))
			return SLUICE_DROP_SHORT_PACKET;
		return parse_tcp(l4, pkt, rest->l4_length);
	}
	if (l4 + sizeof(struct udphdr) > frame_end(skb))
		return SLUICE_DROP_SHORT_PACKET;
	if (pkt->proto == IPPROTO_ICMP) {
		parse_icmp(l4, pkt);
	} else {
		const struct udphdr *ports = l4;

		pkt->sport_be = ports->source;
		pkt->dport_be = ports->dest;
	}
	return SLUICE_DROP_NONE;
}

#endif
