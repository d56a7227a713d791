/* SPDX-License-Identifier: GPL-2.0-only */
/* The header that an ICMP error quotes (RFC 792): what its connection is found by. */
#ifndef SLUICE_LIB_EMBEDDED_H
#define SLUICE_LIB_EMBEDDED_H

#include "lib/parse.h"

struct embedded {
	__be32 src_be;
	__be32 dst_be;
	__be16 sport_be;
	__be16 dport_be;
	__u8 proto;
	__u32 l3_offset;	/* from the start of the frame */
	__u32 l4_offset;
};

/* False if it is cut short, or has no ports (a later fragment, an error about an error). */
static __always_inline bool embedded_parse(struct __sk_buff *skb, const struct sluice_packet *pkt,
					   struct embedded *in)
{
	struct iphdr ip;
	__be16 l4[4];	/* the 8 bytes that every error quotes */

	in->l3_offset = pkt->l4_offset + sizeof(struct icmp_header);
	if (bpf_skb_load_bytes(skb, in->l3_offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
	    ip.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
		return false;
	in->l4_offset = in->l3_offset + ip.ihl * 4;
	if (bpf_skb_load_bytes(skb, in->l4_offset, l4, sizeof(l4)))
		return false;
	in->src_be = ip.saddr;
	in->dst_be = ip.daddr;
	in->proto = ip.protocol;
	switch (ip.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		in->sport_be = l4[0];
		in->dport_be = l4[1];
		return true;
	case IPPROTO_ICMP: {
		__u8 type = *(const __u8 *)l4;

		in->sport_be = l4[2];
		in->dport_be = l4[2];
		return type == ICMP_ECHO || type == ICMP_ECHO_REPLY;
	}
	default:
		in->sport_be = 0;
		in->dport_be = 0;
		return true;
	}
}

#endif
