// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/policy/atom.h"
#include "daemon/policy/port_classes.h"

namespace sluice::policy {

struct PortName {
  std::string name;
  std::uint8_t protocol = 0;
  auto operator<=>(const PortName&) const = default;
};

struct CompiledRule {
  AtomSet peers;            // {kEveryone} if the rule names none; empty: it admits nobody
  bool every_port = false;  // of every protocol; the next two are empty then
  std::vector<PortSpan> spans;
  std::vector<PortName> names;
};

// A policy, and while it is in force its rules in terms of atoms.
struct CompiledPolicy {
  std::shared_ptr<const model::NetworkPolicy> source;
  std::uint32_t serial = 0;  // of this state of the policy; never given twice
  bool in_force = false;
  std::array<std::vector<CompiledRule>, 2> rules;  // [sluice_direction]; none where it does not isolate

  [[nodiscard]] bool isolates(int direction) const;
  void enter(Atoms& atoms);
  void leave();
};

// An egress rule's port that each peer resolves for itself: (peer, name).
using NameUse = std::pair<AtomId, PortName>;

}  // namespace sluice::policy
