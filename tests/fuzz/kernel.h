// SPDX-License-Identifier: Apache-2.0
// As much of the kernel as the modules need to run in user space: maps, packet data that is partly outside of
// the linear area, helpers, tail calls. Every byte that a program may not touch is poisoned (ASan), and the
// data moves whenever a helper may move it, so that a pointer kept too long is found.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <vector>

extern "C" {
#include "tests/fuzz/shim/kernel_abi.h"
}

namespace sluice::fuzz {

using Program = int (*)(__sk_buff*);
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint32_t kUplink = 23;      // where every route leads
constexpr std::uint16_t kUplinkMtu = 200;  // of that way

struct Arrival {
  Bytes frame;
  std::uint32_t ifindex = 0;
  std::uint32_t linear = 0;  // bytes that can be read directly at first
  bool vlan = false;
  bool other_host = false;
  bool bare = false;  // without its Ethernet header, of which only the protocol is told
  std::uint32_t tunnel_source = 0, tunnel_vni = 0;  // host order; 0: no tunnel metadata
};

struct Departure {
  int action = 0;
  Bytes frame;
  std::uint32_t redirected_to = 0;  // ifindex of the last redirect; 0: none
  unsigned programs = 0;
};

void set_slot(std::uint32_t slot, Program program);
void clear_map(const void* symbol);
template <typename Key, typename Value>
void put(const void* symbol, std::uint32_t type, const Key& key, const Value& value) {
  kernel_update({symbol, type, sizeof key, sizeof value, 1u << 20}, &key, &value, BPF_ANY);
}
template <typename Value>
Value* get(const void* symbol, std::uint32_t type, std::uint32_t key) {
  return static_cast<Value*>(kernel_lookup({symbol, type, sizeof key, sizeof(Value), 1u << 20}, &key));
}

// Runs `first`, and all that it tail-calls, on a packet.
[[nodiscard]] Departure run(Program first, const Arrival& arrival);

}  // namespace sluice::fuzz
