// SPDX-License-Identifier: Apache-2.0
// The things that the rules in force can say about a peer. A peer class is a set of them.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "daemon/model/objects.h"
#include "daemon/policy/interner.h"

namespace sluice::policy {

struct PodPredicate {  // "is a pod with these labels in such a namespace"
  std::string ns;      // the one namespace; empty: those that `namespaces` selects
  std::optional<model::LabelSelector> namespaces;
  model::LabelSelector pods;
  auto operator<=>(const PodPredicate&) const = default;
};

// "has an address in one of these blocks". All blocks that a policy admits at the same ports are one atom, so
// that addresses which no rule tells apart share a class, however many blocks there are.
struct Blocks {
  std::vector<model::IpBlock> any_of;  // sorted, distinct
  auto operator<=>(const Blocks&) const = default;
};

struct NamedPort {  // "is a pod whose port of this name has this number"
  std::string name;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
  auto operator<=>(const NamedPort&) const = default;
};

using Atom = std::variant<PodPredicate, Blocks, NamedPort>;
using AtomId = std::uint32_t;
using Atoms = Interner<Atom>;
using AtomSet = std::vector<AtomId>;  // sorted, distinct

inline constexpr AtomId kEveryone = 0;  // true of every peer; in no set

[[nodiscard]] inline bool is_list(AtomId atom, const Atoms& atoms) {
  return atom != kEveryone && std::holds_alternative<Blocks>(atoms.content(atom));
}

}  // namespace sluice::policy
