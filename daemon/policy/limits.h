// SPDX-License-Identifier: Apache-2.0
// How much the rules in force on a node may take (docs/policy-limits.md). The work and the memory of the
// compiler are bounded by these, whatever the objects say.
#pragma once

#include <cstdint>

#include "bpf/abi.h"

namespace sluice::policy {

struct Limits {
  // Of one policy.
  std::uint64_t peer_ports = 1'000'000;  // ports and ranges, each as often as there are peers for it
  std::uint64_t named_ports = 65'536;    // the same, of ports that are names

  // Of one policy, and of all that are in force. Half of each map, so that the rules in force and the next
  // ones fit beside each other.
  std::uint64_t prefixes = SLUICE_MAX_PEER_BLOCKS / 2;  // CIDRs and exceptions
  std::uint64_t memberships = 2'000'000;                // the same, each as often as lists of blocks hold it

  // Of all that are in force.
  std::uint64_t table_words = 2'000'000;  // of 64 bits, a bit for each peer of a table and class of its ports
  std::uint64_t admissions = 500'000;     // rows before those that several peers of a table make are joined
  std::uint64_t rows = SLUICE_MAX_TABLE_ROWS / 2;
  std::uint64_t port_classes = SLUICE_MAX_PORT_CLASSES / 2;
};

}  // namespace sluice::policy
