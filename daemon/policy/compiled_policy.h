// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/policy/atom.h"
#include "daemon/policy/limits.h"
#include "daemon/policy/port_classes.h"

namespace sluice::policy {

struct PortName {
  std::string name;
  std::uint8_t protocol = 0;
  auto operator<=>(const PortName&) const = default;
};

struct RulePorts {
  bool every = false;           // of every protocol; the next two are empty then
  std::vector<PortSpan> spans;  // sorted, distinct, as are the names
  std::vector<PortName> names;
  auto operator<=>(const RulePorts&) const = default;
};

// All that a policy says about the same ports.
struct CompiledRule {
  AtomSet peers;  // {kEveryone} if the policy names none for these ports; empty: they admit nobody
  RulePorts ports;
};

// A port that stands for a number of each pod: (peer, name). An egress rule's peers resolve it, each for
// itself; for ingress the pod that the policy selects does, and the peer is kEveryone.
using NameUse = std::pair<AtomId, PortName>;

// What a policy asks for; see limits.h.
struct Demand {
  std::uint64_t peer_ports = 0;
  std::uint64_t named_ports = 0;
  // At most so many; exact where that were too many. Counted until they are more than a policy may have.
  std::uint64_t prefixes = 0;
  std::uint64_t memberships = 0;
};

// A policy, and while it is in force its rules in terms of atoms.
struct CompiledPolicy {
  std::shared_ptr<const model::NetworkPolicy> source;
  std::uint32_t serial = 0;    // of this state of the policy; never given twice
  std::uint32_t selected = 0;  // number of this node's identities that it selects
  bool in_force = false;       // it selects any, as of the last update; see Policies
  // [sluice_direction]; nothing where it does not isolate, or names too many prefixes.
  std::array<std::vector<CompiledRule>, 2> rules;
  std::array<std::vector<NameUse>, 2> name_uses;  // of the rules, unless they are too many; sorted, distinct
  Demand demand;
  bool refused = false;  // isolates, and that is all; see Refusals
  bool counted = false;  // what it says is among what is said in force; see Policies

  [[nodiscard]] bool isolates(int direction) const;
  void enter(Atoms& atoms, const Limits& limits);
  void leave();

 private:
  [[nodiscard]] std::uint64_t count_prefixes(std::uint64_t most) const;
};

}  // namespace sluice::policy
