// SPDX-License-Identifier: Apache-2.0
// The firewall's shared maps (`peers`, `peer_blocks`, `tables`, `port_classes`) and what is in them. Tables
// and classes are numbered by content and immutable, so adding is safe at any time; taking away is safe once
// no packet is inside a program that may look for it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bpf/abi.h"
#include "common/address.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/maps.h"
#include "daemon/policy/ruleset.h"

namespace sluice::datapath {

using Classes = std::array<std::uint32_t, SLUICE_GENERATION_SLOTS>;  // of one peer or block, by slot

class RuleMaps {
 public:
  explicit RuleMaps(const Maps& maps) : maps_(maps) {}

  // Learns what the kernel has.
  [[nodiscard]] Result<void> read();
  // Of those below. What no ruleset in force has takes room until it is retired.
  [[nodiscard]] bool has_room_for(const policy::Ruleset& ruleset) const;
  // Rows and port classes of the ruleset that are not there yet.
  [[nodiscard]] Result<void> add_tables(const policy::Ruleset& ruleset);
  // Gives one slot the ruleset's classes; what a lookup finds in the other slots does not change for any
  // address. True: something was written.
  [[nodiscard]] Result<bool> write_slot(std::uint32_t slot, const policy::Ruleset& ruleset);
  // Takes away all that the ruleset does not have.
  [[nodiscard]] Result<void> retire_all_but(const policy::Ruleset& ruleset);

  // First numbers that nothing in the maps has.
  [[nodiscard]] Datapath::Numbers free_numbers() const;
  // Differences of the kernel's maps from the ruleset as the slot's generation finds it, in words.
  [[nodiscard]] Result<void> audit(std::uint32_t slot, const policy::Ruleset& ruleset,
                                   std::vector<std::string>& differences) const;

 private:
  [[nodiscard]] Result<bool> write_blocks(std::uint32_t slot, const policy::Ruleset& ruleset);
  [[nodiscard]] Result<bool> write_peers(std::uint32_t slot, const policy::Ruleset& ruleset);
  void want(const policy::PeerMap& peers);
  [[nodiscard]] Result<void> retire_peers(const policy::Ruleset& ruleset);
  [[nodiscard]] Result<void> audit_peers(std::uint32_t slot, const policy::Ruleset& ruleset,
                                         std::vector<std::string>& differences) const;
  [[nodiscard]] Result<void> audit_tables(const policy::Ruleset& ruleset,
                                          std::vector<std::string>& differences) const;

  const Maps& maps_;
  std::unordered_map<Address, Classes> peers_;
  // Of each slot, peers of which the kernel has these classes there. Of others that it has, a slot has what
  // the blocks say.
  std::array<policy::PeerMap, SLUICE_GENERATION_SLOTS> in_slot_;
  policy::PeerMap wanted_;                 // those of the ruleset written last, in whatever slot
  std::unordered_set<Address> leftovers_;  // the kernel has them, wanted_ has not
  std::map<Prefix, Classes> blocks_;
  std::set<policy::RowKey> rows_;
  std::set<policy::PortKey> ports_;
};

}  // namespace sluice::datapath
