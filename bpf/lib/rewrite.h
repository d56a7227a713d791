/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Address translation in the packet's data. The helpers keep CHECKSUM_PARTIAL and CHECKSUM_COMPLETE right:
 * an address is part of the pseudo header (BPF_F_PSEUDO_HDR), a port is not; a UDP checksum of zero means
 * "none" and stays so (BPF_F_MARK_MANGLED_0).
 */
#ifndef SLUICE_LIB_REWRITE_H
#define SLUICE_LIB_REWRITE_H

#include "lib/checksum.h"
#include "lib/embedded.h"

struct translation {
	bool source;		/* of the source, else of the destination */
	__be32 old_addr_be;
	__be32 new_addr_be;
	__be16 old_port_be;
	__be16 new_port_be;
};

static __always_inline bool rewrite_address(struct __sk_buff *skb, __u32 l3_offset,
					    const struct translation *tr)
{
	__u32 field = l3_offset + (tr->source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));

	return !bpf_l3_csum_replace(skb, l3_offset + offsetof(struct iphdr, check), tr->old_addr_be,
				    tr->new_addr_be, sizeof(__be32)) &&
	       !bpf_skb_store_bytes(skb, field, &tr->new_addr_be, sizeof(__be32), 0);
}

/* Offset of the port or of the echo's identifier in the L4 header. */
static __always_inline __u32 port_field(__u8 proto, bool source)
{
	if (proto == IPPROTO_ICMP)
		return offsetof(struct icmp_header, id_be);
	return source ? offsetof(struct udphdr, source) : offsetof(struct udphdr, dest);
}

static __always_inline bool rewrite_l4(struct __sk_buff *skb, const struct sluice_packet *pkt,
				       const struct translation *tr)
{
	__u32 check = pkt->l4_offset, flags = 0;

	switch (pkt->proto) {
	case IPPROTO_TCP:
		check += offsetof(struct tcphdr, check);
		break;
	case IPPROTO_UDP:
		check += offsetof(struct udphdr, check);
		flags = BPF_F_MARK_MANGLED_0;
		break;
	case IPPROTO_ICMP:
		check += offsetof(struct icmp_header, checksum);
		break;
	case IPPROTO_SCTP:	/* its checksum knows no addresses, and the ports stay */
		return tr->old_port_be == tr->new_port_be;
	default:
		return false;
	}
	if (pkt->proto != IPPROTO_ICMP &&
	    bpf_l4_csum_replace(skb, check, tr->old_addr_be, tr->new_addr_be,
				flags | BPF_F_PSEUDO_HDR | sizeof(__be32)))
		return false;
	return !bpf_l4_csum_replace(skb, check, tr->old_port_be, tr->new_port_be, flags | sizeof(__be16)) &&
	       !bpf_skb_store_bytes(skb, pkt->l4_offset + port_field(pkt->proto, tr->source),
				    &tr->new_port_be, sizeof(__be16), 0);
}

/* Translates a packet of the connection itself. */
static __always_inline bool rewrite(struct __sk_buff *skb, const struct sluice_packet *pkt,
				    const struct translation *tr)
{
	if (!(pkt->flags & SLUICE_PKT_FRAGMENT_LATER) && !rewrite_l4(skb, pkt, tr))
		return false;
	return rewrite_address(skb, pkt->l3_offset, tr);
}

/* A field of the quoted header, with ICMP's checksum over it. */
static __always_inline bool rewrite_quoted(struct __sk_buff *skb, const struct sluice_packet *pkt,
					   __u32 offset, const __be16 *change)
{
	return !bpf_l4_csum_replace(skb, pkt->l4_offset + offsetof(struct icmp_header, checksum), change[0],
				    change[1], sizeof(__be16)) &&
	       !bpf_skb_store_bytes(skb, offset, &change[1], sizeof(__be16), 0);
}

/* Checksum of a quoted UDP or echo header; TCP's lies behind the 8 bytes that are sure to be quoted. */
static __always_inline bool rewrite_quoted_checksum(struct __sk_buff *skb, const struct sluice_packet *pkt,
						    const struct embedded *in, const struct translation *tr)
{
	__u32 offset = in->l4_offset + (in->proto == IPPROTO_UDP ? offsetof(struct udphdr, check) :
								    offsetof(struct icmp_header, checksum));
	__be16 check[2];

	if (in->proto == IPPROTO_TCP)
		return true;
	if (bpf_skb_load_bytes(skb, offset, &check[0], sizeof(check[0])))
		return false;
	check[1] = checksum_change(check[0], tr->old_port_be, tr->new_port_be);
	if (in->proto == IPPROTO_UDP) {
		if (!check[0])
			return true;
		check[1] = checksum_change(check[1], tr->old_addr_be, tr->new_addr_be);
		check[1] = checksum_change(check[1], tr->old_addr_be >> 16, tr->new_addr_be >> 16);
		if (!check[1])
			check[1] = 0xffff;
	}
	return rewrite_quoted(skb, pkt, offset, check);
}

/*
 * Translates an ICMP error about the connection: in the quoted header, which ran the other way, the opposite end; and the
 * error's own address, even if it is that of a router on the way: whoever gets the error knows no address behind the
 * translation, and another node takes from this one's tunnel only what comes from its own. The quoted address and the
 * quoted header's checksum make up for each other, so ICMP's checksum only sees what changed behind that header.
 */
static __always_inline bool rewrite_error(struct __sk_buff *skb, const struct sluice_packet *pkt,
					  const struct embedded *in, const struct translation *tr)
{
	struct translation own = *tr, quoted = *tr;
	__be16 port[2] = { tr->old_port_be, tr->new_port_be };

	own.old_addr_be = addr_v4(tr->source ? &pkt->src : &pkt->dst);
	quoted.source = !tr->source;
	return rewrite_quoted_checksum(skb, pkt, in, &quoted) &&
	       rewrite_quoted(skb, pkt, in->l4_offset + port_field(in->proto, quoted.source), port) &&
	       rewrite_address(skb, in->l3_offset, &quoted) && rewrite_address(skb, pkt->l3_offset, &own);
}

#endif
