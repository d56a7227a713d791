/* SPDX-License-Identifier: GPL-2.0-only */
/* The way of a packet out of the node, and the size of those that the way takes. */
#ifndef SLUICE_LIB_MTU_H
#define SLUICE_LIB_MTU_H

#include "lib/parse.h"
#include "lib/sealed.h"

#define AF_INET 2

/* Bytes of the largest IPv4 packet, without tunnel headers, that the interface makes of this one; 0: unknown. */
static __always_inline __u32 segment_size(struct __sk_buff *skb, const struct sluice_packet *pkt)
{
	const __u32 l4_offset = pkt->l4_offset & 0x7f;	/* ETH_HLEN + 60 at most; the mask is for the verifier */
	const struct tcphdr *tcp;

	if (!skb->gso_size)
		return skb->len - ETH_HLEN;
	if (pkt->proto == IPPROTO_UDP)
		return l4_offset - ETH_HLEN + sizeof(struct udphdr) + skb->gso_size;
	tcp = frame_start(skb) + l4_offset;
	if (pkt->proto != IPPROTO_TCP || (const void *)(tcp + 1) > frame_end(skb))
		return 0;
	return l4_offset - ETH_HLEN + tcp->doff * 4 + skb->gso_size;
}

/* False: the interface is no uplink. */
static __always_inline bool uplink_get(__u32 ifindex, struct sluice_uplink *uplink)
{
	const struct sluice_uplink *found = bpf_map_lookup_elem(&uplinks, &ifindex);

	if (!found)
		return false;
	*(word64 *)uplink = sealed_word(found);
	return uplink->ifindex == ifindex;
}

/* Asks the FIB for the way of a packet of that size (0: of the packet's own) as one that arrived on sluice_host. */
static __always_inline long fib_ask(struct __sk_buff *skb, const struct sluice_config *cfg, struct bpf_fib_lookup *fib,
				    __be32 src_be, __be32 dst_be, __u32 size)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = AF_INET;
	fib->tot_len = size;
	fib->ipv4_src = src_be;
	fib->ipv4_dst = dst_be;
	fib->ifindex = cfg->host_ifindex;
	return bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
}

/*
 * Into pkt->mtu, the MTU of a way that a packet of `size` is too large for; `fib` is the answer that said so. Kernels before
 * 5.12 do not tell it: there it is found bit by bit, as the largest size that would pass. 0: unknown, since the kernel heeds
 * the packet's own size alone. Kept in the context, of which the verifier knows nothing: it walks the loop once.
 */
static __always_inline void fib_mtu(struct __sk_buff *skb, struct sluice_packet *pkt, const struct sluice_config *cfg,
				    struct bpf_fib_lookup *fib, __be32 src_be, __be32 dst_be, __u32 size)
{
	volatile __u16 *mtu = &pkt->mtu;

	if (fib->tot_len != size) {
		*mtu = fib->tot_len;
		return;
	}
	*mtu = 0;
	for (int bit = 15; bit >= 0; bit--) {
		const __u16 more = *mtu | 1 << bit;

		if (fib_ask(skb, cfg, fib, src_be, dst_be, more) != BPF_FIB_LKUP_RET_FRAG_NEEDED)
			*mtu = more;
	}
}

#endif
