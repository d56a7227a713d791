// SPDX-License-Identifier: Apache-2.0
// What the compiler hands to the datapath: the desired content of the firewall's maps for one state of the
// cluster. Numbers (tables, port tables, classes) stand for content: the same content keeps its number
// while in use and for hundreds of rulesets after, and a number never comes back with other content.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "bpf/abi.h"
#include "common/address.h"
#include "daemon/policy/block_classes.h"
#include "daemon/policy/cluster.h"
#include "daemon/policy/peer_map.h"
#include "daemon/policy/port_classes.h"

namespace sluice::policy {

struct RowKey {
  std::uint32_t table = 0;
  std::uint32_t peer_class = 0;
  std::uint32_t page = 0;
  auto operator<=>(const RowKey&) const = default;
};

using Row = std::array<std::uint64_t, SLUICE_ROW_BITS / 64>;

struct PortKey {  // the ports of `protocol` whose upper `port_bits` bits are those of `port`
  std::uint32_t table = 0;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;  // host order
  std::uint8_t port_bits = 16;
  auto operator<=>(const PortKey&) const = default;
};

struct EndpointPolicy {                  // struct sluice_policy
  std::array<std::uint32_t, 2> table{};  // [sluice_direction]
  std::array<std::uint32_t, 2> ports{};  // not 0: the classes of ports are in port_classes, else in port_runs
  std::array<std::vector<PortRun>, 2> port_runs;  // SLUICE_PORT_RUNS at most
  std::optional<std::uint32_t> peer_class;        // its own, as a peer of others
  bool isolated_ingress = false;
  bool isolated_egress = false;
  bool operator==(const EndpointPolicy&) const = default;
  // Admits the same; its own class may differ.
  [[nodiscard]] bool admits_as(const EndpointPolicy& other) const {
    return table == other.table && ports == other.ports && port_runs == other.port_runs &&
           isolated_ingress == other.isolated_ingress && isolated_egress == other.isolated_egress;
  }
};

struct Ruleset {
  PeerMap peers;        // every address of a known pod -> class (0 too)
  BlockClasses blocks;  // longest prefix decides, for addresses not in peers
  std::map<RowKey, Row> rows;
  std::map<PortKey, std::uint32_t> port_classes;
  std::map<std::uint32_t, EndpointPolicy> endpoints;  // by endpoint id
  RefusedPolicies refused;

  // The class of an address as the datapath finds it: peers, then blocks, then 0.
  [[nodiscard]] std::uint32_t class_of(const Address& address) const;
};

}  // namespace sluice::policy
