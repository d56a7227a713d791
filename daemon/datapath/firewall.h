// SPDX-License-Identifier: Apache-2.0
// Makes rulesets live: in place, or as a new generation.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/datapath/datapath.h"
#include "daemon/datapath/generation.h"
#include "daemon/datapath/grace_period.h"
#include "daemon/datapath/history.h"
#include "daemon/datapath/live.h"
#include "daemon/datapath/maps.h"
#include "daemon/datapath/modules.h"
#include "daemon/datapath/rule_maps.h"

namespace sluice::datapath {

class Firewall {
 public:
  struct Parts {
    const Maps& maps;
    const Pins& pins;
    const Program& probe;
    const ObjectOptions& objects;
    const LiveStamp& live;
    GracePeriod& grace;
    History& history;
    std::uint32_t most_peers;
  };
  explicit Firewall(const Parts& parts) : parts_(parts), rules_(parts.maps, parts.pins, parts.most_peers) {}

  // After a start: finds the generation in force and finishes or removes what an earlier daemon left
  // half-way.
  [[nodiscard]] Result<void> adopt();
  [[nodiscard]] Datapath::Numbers first_numbers() const;
  [[nodiscard]] Result<Applied> apply(std::shared_ptr<const policy::Ruleset> ruleset,
                                      const std::string& reason, const std::function<CheckPackets()>& check);
  // Takes away what only generations before the live one looked for, and gives their slots its classes: the
  // next generation then finds little to write.
  [[nodiscard]] Result<void> collect();
  // Sends every established connection to the firewall once more.
  void rejudge_connections();
  [[nodiscard]] Result<void> audit(std::vector<std::string>& differences) const;

 private:
  [[nodiscard]] bool several_peers_change(const policy::Ruleset& next) const;
  [[nodiscard]] bool fits_in_place(const policy::Ruleset& next) const;
  [[nodiscard]] Result<bool> apply_in_place(const policy::Ruleset& next);
  [[nodiscard]] Result<GenerationStatus> apply_generation(const policy::Ruleset& next,
                                                          const std::function<CheckPackets()>& check);
  [[nodiscard]] Result<RuleMaps::Slots> free_slots(std::uint32_t slot);
  [[nodiscard]] std::uint32_t slot_in_force() const;
  [[nodiscard]] Result<void> check(const Generation& candidate, const CheckPackets& packets);
  [[nodiscard]] Result<void> swap(Generation candidate);
  [[nodiscard]] Result<std::uint32_t> program_in_force() const;

  Parts parts_;
  RuleMaps rules_;
  Datapath::Numbers adopted_;  // above all tables of the generation that an earlier daemon left
  std::uint32_t next_number_ = 1;
  std::optional<Generation> live_;                  // made by this process
  std::shared_ptr<const policy::Ruleset> applied_;  // what it admits
  bool leftovers_ = true;  // something may be there that no generation in force needs
  bool doubtful_ = false;  // a change in place failed and could not be undone
  // What may still be inside the generation that had each slot last, and inside any before the last change.
  std::array<GracePeriod::Ticket, SLUICE_GENERATION_SLOTS> left_slot_{};
  GracePeriod::Ticket left_before_ = 0;
};

}  // namespace sluice::datapath
