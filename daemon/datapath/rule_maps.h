// SPDX-License-Identifier: Apache-2.0
// The firewall's shared maps (`peers`, `peer_blocks`, `tables`, `port_classes`) and what is in them. Tables
// and classes are numbered by content and immutable, so adding is safe at any time; taking away is safe once
// no packet is inside a program that may look for it.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bpf/abi.h"
#include "common/address.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/map.h"
#include "daemon/datapath/maps.h"
#include "daemon/datapath/pins.h"
#include "daemon/datapath/rule_maps_abi.h"
#include "daemon/policy/ruleset.h"

namespace sluice::datapath {

class RuleMaps {
 public:
  RuleMaps(const Maps& maps, const Pins& pins, std::uint32_t most_peers)
      : maps_(maps), pins_(pins), most_peers_(most_peers) {}

  using Slots = std::bitset<SLUICE_GENERATION_SLOTS>;

  // Learns what the kernel has.
  [[nodiscard]] Result<void> open();
  // Of those below. What no ruleset in force has takes room until it is retired.
  [[nodiscard]] bool has_room_for(const policy::Ruleset& ruleset) const;
  [[nodiscard]] const RawMap& peers() const { return peers_map_.raw(); }
  // Do its peers fit, or as many as can ever be made to fit?
  [[nodiscard]] bool has_room_for_peers(const policy::Ruleset& ruleset) const;
  // Puts a larger map in the place of `peers`, with all that is in it. Programs that have the one before keep
  // it, and what is written from here on does not reach them. keep_room() or give_room_back() must follow.
  [[nodiscard]] Result<void> make_room(const policy::Ruleset& ruleset);
  void keep_room();
  void give_room_back();
  // Rows and port classes of the ruleset that are not there yet.
  [[nodiscard]] Result<void> add_tables(const policy::Ruleset& ruleset);
  // Gives these slots the ruleset's classes; what a lookup finds in the other slots does not change for any
  // address. True: something was written. Peers that do not fit are left out, as if they were no pods: what
  // is admitted to pods is not to them.
  [[nodiscard]] Result<bool> write_slots(const Slots& slots, const policy::Ruleset& ruleset);
  // Takes away all that the ruleset does not have.
  [[nodiscard]] Result<void> retire_all_but(const policy::Ruleset& ruleset);

  [[nodiscard]] std::size_t left_out() const { return left_out_.size(); }
  [[nodiscard]] bool is_left_out(const Address& address) const { return left_out_.contains(address); }

  // First numbers that nothing in the maps has.
  [[nodiscard]] Datapath::Numbers free_numbers() const;
  // Differences of the kernel's maps from the ruleset as the slot's generation finds it, in words.
  [[nodiscard]] Result<void> audit(std::uint32_t slot, const policy::Ruleset& ruleset,
                                   std::vector<std::string>& differences) const;

 private:
  [[nodiscard]] Result<void> read();
  [[nodiscard]] Result<bool> write_blocks(const Slots& slots, const policy::Ruleset& ruleset);
  [[nodiscard]] Result<bool> write_peers(const Slots& slots, const policy::Ruleset& ruleset);
  void want(const policy::PeerMap& peers);
  [[nodiscard]] Result<void> retire_peers(const policy::Ruleset& ruleset);
  [[nodiscard]] Result<void> audit_peers(std::uint32_t slot, const policy::Ruleset& ruleset,
                                         std::vector<std::string>& differences) const;
  [[nodiscard]] Result<void> audit_tables(const policy::Ruleset& ruleset,
                                          std::vector<std::string>& differences) const;

  const Maps& maps_;
  const Pins& pins_;
  std::uint32_t most_peers_;
  Map<sluice_addr, sluice_peer> peers_map_;
  std::optional<Map<sluice_addr, sluice_peer>> smaller_;  // peers_map_ before make_room()
  std::unordered_map<Address, Classes> peers_;
  // Of each slot, peers of which the kernel has these classes there. Of others that it has, a slot has what
  // the blocks say.
  std::array<policy::PeerMap, SLUICE_GENERATION_SLOTS> in_slot_;
  policy::PeerMap wanted_;                 // those of the ruleset written last, in whatever slot
  std::unordered_set<Address> leftovers_;  // the kernel has them, wanted_ has not
  std::unordered_set<Address> left_out_;   // wanted_ has them, the kernel has not
  std::map<Prefix, Classes> blocks_;
  std::set<policy::RowKey> rows_;
  std::set<policy::PortKey> ports_;
};

}  // namespace sluice::datapath
