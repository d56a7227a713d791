// SPDX-License-Identifier: Apache-2.0
// Keys and values of the firewall's shared maps, as the compiler has them and as the programs do.
#pragma once

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "bpf/abi.h"
#include "common/address.h"
#include "daemon/policy/ruleset.h"

namespace sluice::datapath {

using Classes = std::array<std::uint32_t, SLUICE_GENERATION_SLOTS>;  // of one peer or block, by slot

inline constexpr unsigned kPortKeyFixedBits = 40;  // table and protocol

inline sluice_route_key abi_of(const Prefix& prefix) { return prefix.abi(); }
inline sluice_row_key abi_of(const policy::RowKey& key) { return {key.table, key.peer_class, key.page}; }

inline sluice_row abi_of(const policy::Row& row) {
  sluice_row value{};
  std::copy(row.begin(), row.end(), value.bits);
  return value;
}

inline sluice_port_key abi_of(const policy::PortKey& key) {
  sluice_port_key value{};
  value.prefix_len = kPortKeyFixedBits + key.port_bits;
  value.table_be = htonl(key.table);
  value.proto = key.protocol;
  value.port_be[0] = static_cast<std::uint8_t>(key.port >> 8);
  value.port_be[1] = static_cast<std::uint8_t>(key.port & 0xff);
  return value;
}

inline sluice_peer bound_to(const sluice_addr& address, const Classes& classes) {
  sluice_peer value{};
  for (std::size_t slot = 0; slot < classes.size(); ++slot)
    value.bound_class[slot] = sluice_peer_bind(&address, classes[slot]);
  return value;
}

// What the programs make of it: another address's is no class that any row has.
inline Classes unbind(const sluice_addr& address, const sluice_peer& value) {
  Classes classes{};
  for (std::size_t slot = 0; slot < classes.size(); ++slot) {
    const auto number = static_cast<std::uint32_t>(value.bound_class[slot]);
    classes[slot] = value.bound_class[slot] == sluice_peer_bind(&address, number) ? number : SLUICE_NO_CLASS;
  }
  return classes;
}

inline sluice_peer_block abi_of(const Classes& classes) {
  sluice_peer_block value{};
  std::copy(classes.begin(), classes.end(), value.peer_class);
  return value;
}

inline Classes from_abi(const sluice_peer_block& value) { return std::to_array(value.peer_class); }

inline policy::RowKey from_abi(const sluice_row_key& key) { return {key.table, key.peer_class, key.page}; }

inline policy::PortKey from_abi(const sluice_port_key& key) {
  return {ntohl(key.table_be), key.proto, static_cast<std::uint16_t>(key.port_be[0] << 8 | key.port_be[1]),
          static_cast<std::uint8_t>(key.prefix_len - kPortKeyFixedBits)};
}

inline Prefix from_abi(const sluice_route_key& key) { return {Address::from_abi(key.addr), key.prefix_len}; }

}  // namespace sluice::datapath
