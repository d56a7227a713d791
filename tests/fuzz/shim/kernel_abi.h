/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The kernel that the modules find in user space (kernel.cpp): maps, tail calls, helpers. */
#ifndef SLUICE_FUZZ_KERNEL_ABI_H
#define SLUICE_FUZZ_KERNEL_ABI_H

#include <linux/bpf.h>
#include <linux/types.h>

struct kernel_map {
	const void *symbol;
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
};
void *kernel_lookup(struct kernel_map map, const void *key);
long kernel_update(struct kernel_map map, const void *key, const void *value, __u64 flags);
long kernel_delete(struct kernel_map map, const void *key);
void kernel_tail_call(struct __sk_buff *skb, __u32 slot);
void *kernel_reserve(__u64 size);
void kernel_submit(void *data);

__u64 bpf_ktime_get_ns(void);
__u64 bpf_jiffies64(void);
__u32 bpf_get_prandom_u32(void);
long bpf_skb_pull_data(struct __sk_buff *skb, __u32 length);
long bpf_skb_load_bytes(const void *skb, __u32 offset, void *to, __u32 length);
long bpf_skb_store_bytes(struct __sk_buff *skb, __u32 offset, const void *from, __u32 length, __u64 flags);
long bpf_l3_csum_replace(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 size);
long bpf_l4_csum_replace(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags);
long bpf_skb_change_tail(struct __sk_buff *skb, __u32 length, __u64 flags);
long bpf_skb_change_head(struct __sk_buff *skb, __u32 length, __u64 flags);
long bpf_skb_adjust_room(struct __sk_buff *skb, __s32 more, __u32 mode, __u64 flags);
long bpf_csum_level(struct __sk_buff *skb, __u64 level);
__u32 bpf_get_hash_recalc(struct __sk_buff *skb);
__s64 bpf_csum_diff(__be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __wsum seed);
long bpf_skb_change_type(struct __sk_buff *skb, __u32 type);
long bpf_skb_get_tunnel_key(struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 size, __u64 flags);
long bpf_skb_set_tunnel_key(struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 size, __u64 flags);
long bpf_fib_lookup(void *skb, struct bpf_fib_lookup *fib, int size, __u32 flags);
long bpf_redirect(__u32 ifindex, __u64 flags);
struct bpf_sock *bpf_skc_lookup_tcp(void *skb, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns, __u64 flags);
struct bpf_sock *bpf_sk_lookup_udp(void *skb, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns, __u64 flags);
long bpf_sk_release(void *socket);
long bpf_redirect_peer(__u32 ifindex, __u64 flags);
long bpf_redirect_neigh(__u32 ifindex, struct bpf_redir_neigh *hop, int size, __u64 flags);

#endif
