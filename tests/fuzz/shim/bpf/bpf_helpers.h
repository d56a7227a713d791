/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Stands in for libbpf's header when the modules are compiled for user space (tests/fuzz): the same macros,
 * with maps and helpers that kernel.cpp provides. Maps and programs become weak symbols, so that the maps
 * that each object defines are one in the whole program, as pinning makes them one in the kernel.
 */
#ifndef SLUICE_FUZZ_BPF_HELPERS_H
#define SLUICE_FUZZ_BPF_HELPERS_H

#include "kernel_abi.h"

#define SEC(name) __attribute__((weak, used))
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
enum { LIBBPF_PIN_BY_NAME = 1 };

#define KERNEL_MAP(map) \
	((struct kernel_map){ map, sizeof(*(map)->type) / sizeof(int), sizeof(*(map)->key), \
			      sizeof(*(map)->value), sizeof(*(map)->max_entries) / sizeof(int) })

#define bpf_map_lookup_elem(map, key) kernel_lookup(KERNEL_MAP(map), key)
#define bpf_map_update_elem(map, key, value, flags) kernel_update(KERNEL_MAP(map), key, value, flags)
#define bpf_map_delete_elem(map, key) kernel_delete(KERNEL_MAP(map), key)
/* One CPU: nobody waits. */
#define bpf_spin_lock(lock) ((void)(lock))
#define bpf_spin_unlock(lock) ((void)(lock))
#define bpf_tail_call(skb, map, slot) kernel_tail_call(skb, slot)
#define bpf_tail_call_static(skb, map, slot) kernel_tail_call(skb, slot)
#define bpf_ringbuf_reserve(map, size, flags) kernel_reserve(size)
#define bpf_ringbuf_submit(data, flags) kernel_submit(data)

#endif
