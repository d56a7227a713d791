// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/kernel.h"

#include <linux/pkt_cls.h>
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

namespace sluice::fuzz {
namespace {

constexpr std::size_t kArea = 1 << 17;
constexpr std::size_t kHeadroom = 256 + 2;  // NET_IP_ALIGN, so that the IP header is at a multiple of four
#ifndef ENOTSUPP
constexpr int ENOTSUPP = 524;  // the kernel's own
#endif
constexpr unsigned kTailCallsMost = 33;  // MAX_TAIL_CALL_CNT

// Where skb->data, of 32 bits, can point to.
std::uint8_t* areas() {
  static auto* const memory = [] {
    auto* const wanted = reinterpret_cast<void*>(0x10000000);
    auto* const got = ::mmap(wanted, 2 * kArea, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != wanted) std::abort();
    return static_cast<std::uint8_t*>(got);
  }();
  return memory;
}

struct Packet {
  __sk_buff skb{};
  Bytes frame;  // the truth; the linear area holds a copy of its beginning
  std::uint32_t linear = 0;
  unsigned area = 0;
  const Arrival* arrival = nullptr;
  std::uint32_t redirected_to = 0;
  unsigned programs = 0;
  std::jmp_buf next;

  std::uint8_t* data() const { return areas() + area * kArea + kHeadroom; }
  // What the programs wrote into the linear area.
  void take_back() { std::copy_n(data(), linear, frame.begin()); }
  void place(std::uint32_t length) {
    linear = length;
    area ^= 1;
    ASAN_POISON_MEMORY_REGION(areas(), 2 * kArea);
    ASAN_UNPOISON_MEMORY_REGION(data(), linear);
    std::copy_n(frame.begin(), linear, data());
    const auto at = reinterpret_cast<std::uintptr_t>(data());
    skb.data = static_cast<std::uint32_t>(at);
    skb.data_end = static_cast<std::uint32_t>(at) + linear;
    skb.len = static_cast<std::uint32_t>(frame.size());
  }
};

Packet* current = nullptr;
std::array<Program, 16> slots{};
std::uint64_t clock_ns = 1'000'000'000;

// Each value is an allocation of its own: what is beside it is poisoned.
struct Map {
  std::uint32_t key_size = 0, value_size = 0;
  std::map<std::string, std::unique_ptr<std::uint8_t[]>> entries;
};
std::unordered_map<const void*, Map>& maps() {
  static std::unordered_map<const void*, Map> all;
  return all;
}

bool is_array(std::uint32_t type) { return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY; }

Map& map_of(const kernel_map& about) {
  auto& map = maps()[about.symbol];
  map.key_size = about.key_size;
  map.value_size = about.value_size;
  return map;
}

std::string text(const void* key, std::size_t size) { return {static_cast<const char*>(key), size}; }

bool has_prefix(const std::string& entry, const std::string& key) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, entry.data(), sizeof bits);
  for (std::uint32_t bit = 0; bit < bits; ++bit) {
    const auto at = sizeof bits + bit / 8;
    if (((entry[at] ^ key[at]) >> (7 - bit % 8)) & 1) return false;
  }
  return true;
}

std::uint8_t* find_prefix(Map& map, const std::string& key) {
  std::uint8_t* best = nullptr;
  std::uint32_t best_bits = 0;
  for (auto& [entry, value] : map.entries) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, entry.data(), sizeof bits);
    if ((best == nullptr || bits >= best_bits) && has_prefix(entry, key))
      best = value.get(), best_bits = bits;
  }
  return best;
}

bool inside(std::uint32_t offset, std::size_t length) {
  return offset <= 0xffff && offset + length <= current->frame.size();
}

std::uint16_t fold(std::uint64_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

long change_checksum(std::uint32_t offset, std::uint64_t from, std::uint64_t to, std::uint64_t flags) {
  if (offset % 2 || !inside(offset, 2)) return -EFAULT;
  const auto size = flags & BPF_F_HDR_FIELD_MASK;
  if (size != 2 && size != 4) return -EINVAL;
  std::uint16_t check = 0;
  current->take_back();
  std::memcpy(&check, &current->frame[offset], sizeof check);
  if (!check && flags & BPF_F_MARK_MANGLED_0) return 0;
  std::uint64_t sum = static_cast<std::uint16_t>(~check);
  for (unsigned shift = 0; shift < size * 8; shift += 16)
    sum += static_cast<std::uint16_t>(~(from >> shift)) + ((to >> shift) & 0xffff);
  check = static_cast<std::uint16_t>(~fold(sum));
  if (!check && flags & BPF_F_MARK_MANGLED_0) check = 0xffff;
  std::memcpy(&current->frame[offset], &check, sizeof check);
  current->place(current->linear);
  return 0;
}

long redirect(std::uint32_t ifindex) {
  current->redirected_to = ifindex;
  return TC_ACT_REDIRECT;
}

}  // namespace

void set_slot(std::uint32_t slot, Program program) { slots.at(slot) = program; }
void clear_map(const void* symbol) { maps()[symbol].entries.clear(); }

Departure run(Program first, const Arrival& arrival) {
  static Packet packet;  // not on the stack that longjmp() unwinds
  packet = Packet{};
  packet.frame = arrival.frame;
  packet.arrival = &arrival;
  current = &packet;
  auto& skb = packet.skb;
  skb.ifindex = arrival.ifindex;
  skb.vlan_present = arrival.vlan;
  skb.pkt_type = arrival.other_host ? 3 : 0;
  if (arrival.frame.size() >= 14) {
    std::uint16_t protocol_be = 0;
    std::memcpy(&protocol_be, &arrival.frame[12], sizeof protocol_be);
    skb.protocol = protocol_be;
  }
  if (arrival.bare)
    packet.frame.erase(packet.frame.begin(),
                       packet.frame.begin() + std::min<std::ptrdiff_t>(14, std::ssize(packet.frame)));
  packet.place(std::min(arrival.linear, static_cast<std::uint32_t>(packet.frame.size())));
  const int slot = setjmp(packet.next);
  const Program program = slot == 0 ? first : slots.at(static_cast<std::size_t>(slot));
  ++packet.programs;
  const int action = program(&skb);
  packet.take_back();
  ASAN_UNPOISON_MEMORY_REGION(areas(), 2 * kArea);
  return {action, packet.frame, packet.redirected_to, packet.programs};
}

}  // namespace sluice::fuzz

using namespace sluice::fuzz;

extern "C" {

void* kernel_lookup(kernel_map about, const void* key) {
  auto& map = map_of(about);
  const auto wanted = text(key, about.key_size);
  if (about.type == BPF_MAP_TYPE_LPM_TRIE) return find_prefix(map, wanted);
  if (const auto found = map.entries.find(wanted); found != map.entries.end()) return found->second.get();
  std::uint32_t index = 0;
  if (!is_array(about.type)) return nullptr;
  std::memcpy(&index, key, sizeof index);
  if (index >= about.max_entries) return nullptr;
  return (map.entries[wanted] = std::make_unique<std::uint8_t[]>(about.value_size)).get();
}

long kernel_update(kernel_map about, const void* key, const void* value, __u64 flags) {
  auto& map = map_of(about);
  const auto wanted = text(key, about.key_size);
  const auto found = map.entries.find(wanted);
  if (flags == BPF_NOEXIST && found != map.entries.end()) return -EEXIST;
  if (found == map.entries.end() && map.entries.size() >= about.max_entries) return -E2BIG;
  auto& entry = map.entries[wanted];
  if (!entry) entry = std::make_unique<std::uint8_t[]>(about.value_size);
  std::memcpy(entry.get(), value, about.value_size);
  return 0;
}

long kernel_delete(kernel_map about, const void* key) {
  return map_of(about).entries.erase(text(key, about.key_size)) ? 0 : -ENOENT;
}

void kernel_tail_call(__sk_buff*, __u32 slot) {
  if (slot >= slots.size() || !slots[slot] || current->programs > kTailCallsMost) return;
  std::longjmp(current->next, static_cast<int>(slot));
}

void* kernel_reserve(__u64 size) { return std::malloc(size); }
void kernel_submit(void* data) { std::free(data); }

__u64 bpf_ktime_get_ns() { return clock_ns += 1'000'000; }
__u64 bpf_jiffies64() { return clock_ns; }
__u32 bpf_get_prandom_u32() { return 4711; }

long bpf_skb_pull_data(__sk_buff*, __u32 length) {
  if (length > current->frame.size()) return -ENOMEM;
  current->take_back();
  current->place(std::max(length, current->linear));
  return 0;
}

long bpf_skb_load_bytes(const void*, __u32 offset, void* to, __u32 length) {
  if (!inside(offset, length)) {
    std::memset(to, 0, length);
    return -EFAULT;
  }
  current->take_back();
  std::memcpy(to, &current->frame[offset], length);
  return 0;
}

long bpf_skb_store_bytes(__sk_buff*, __u32 offset, const void* from, __u32 length, __u64) {
  if (!inside(offset, length)) return -EFAULT;
  current->take_back();
  std::memcpy(&current->frame[offset], from, length);
  current->place(current->linear);
  return 0;
}

long bpf_l3_csum_replace(__sk_buff*, __u32 offset, __u64 from, __u64 to, __u64 size) {
  return change_checksum(offset, from, to, size);
}
long bpf_l4_csum_replace(__sk_buff*, __u32 offset, __u64 from, __u64 to, __u64 flags) {
  return change_checksum(offset, from, to, flags);
}

long bpf_skb_change_tail(__sk_buff*, __u32 length, __u64) {
  if (length < 14 || length > 0xffff) return -EINVAL;
  current->take_back();
  current->frame.resize(length);
  current->place(std::min(current->linear, length));
  return 0;
}
long bpf_skb_change_head(__sk_buff*, __u32 more, __u64) {
  current->take_back();
  current->frame.insert(current->frame.begin(), more, 0);
  current->place(current->linear + more);
  return 0;
}
// Behind the Ethernet header.
long bpf_skb_adjust_room(__sk_buff*, __s32 more, __u32 mode, __u64) {
  if (mode != BPF_ADJ_ROOM_MAC || std::abs(more) > 0xfff || current->frame.size() < 14) return -EINVAL;
  current->take_back();
  auto& frame = current->frame;
  if (more >= 0) {
    frame.insert(frame.begin() + 14, static_cast<std::size_t>(more), 0);
    current->place(std::min(current->linear, 14u) + static_cast<std::uint32_t>(more));
    return 0;
  }
  if (frame.size() < 14u + 20u + static_cast<std::size_t>(-more)) return -ENOTSUPP;
  frame.erase(frame.begin() + 14, frame.begin() + 14 - more);
  current->place(std::min(current->linear, 14u));
  return 0;
}
long bpf_csum_level(__sk_buff*, __u64) { return 0; }
__u32 bpf_get_hash_recalc(__sk_buff* skb) { return skb->len * 0x9e3779b1u; }
__s64 bpf_csum_diff(__be32* from, __u32 from_size, __be32* to, __u32 to_size, __wsum seed) {
  if (from_size % 4 || to_size % 4) return -EINVAL;
  std::uint64_t sum = seed;
  for (__u32 i = 0; i < from_size / 4; ++i) sum += static_cast<std::uint32_t>(~from[i]);
  for (__u32 i = 0; i < to_size / 4; ++i) sum += to[i];
  while (sum >> 32) sum = (sum & 0xffffffff) + (sum >> 32);
  return static_cast<__s64>(sum);
}

long bpf_skb_change_type(__sk_buff* skb, __u32 type) {
  skb->pkt_type = type;
  return 0;
}

long bpf_skb_get_tunnel_key(__sk_buff*, bpf_tunnel_key* key, __u32, __u64) {
  if (!current->arrival->tunnel_source) return -EINVAL;
  key->tunnel_id = current->arrival->tunnel_vni;
  key->remote_ipv4 = current->arrival->tunnel_source;
  return 0;
}
long bpf_skb_set_tunnel_key(__sk_buff*, bpf_tunnel_key*, __u32, __u64) { return 0; }

long bpf_fib_lookup(void*, struct bpf_fib_lookup* fib, int, __u32) {
  if (fib->tot_len > kUplinkMtu) {
    fib->mtu_result = kUplinkMtu;
    return BPF_FIB_LKUP_RET_FRAG_NEEDED;
  }
  fib->ifindex = kUplink;
  return BPF_FIB_LKUP_RET_SUCCESS;
}
long bpf_redirect(__u32 ifindex, __u64) { return redirect(ifindex); }
// The node has no connections of its own.
bpf_sock* bpf_skc_lookup_tcp(void*, bpf_sock_tuple*, __u32, __u64, __u64) { return nullptr; }
bpf_sock* bpf_sk_lookup_udp(void*, bpf_sock_tuple*, __u32, __u64, __u64) { return nullptr; }
long bpf_sk_release(void*) { return 0; }
long bpf_redirect_peer(__u32 ifindex, __u64) { return redirect(ifindex); }
long bpf_redirect_neigh(__u32 ifindex, bpf_redir_neigh*, int, __u64) { return redirect(ifindex); }
}
