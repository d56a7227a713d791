// SPDX-License-Identifier: Apache-2.0
// Whom what is counted is charged to, where it is more than a node has room for (docs/policy-limits.md). What
// the objects of two namespaces make together, as a CIDR of one in a list of the other, is charged to the
// one that weighs more. So nobody pays for another's flood but by what he himself has of it.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>

#include "daemon/policy/atom.h"
#include "daemon/policy/limits.h"
#include "daemon/policy/refusals.h"

namespace sluice::policy {

using AtomsByNamespace = std::map<std::string_view, AtomSet>;

// Below, `lists` are the lists of blocks that each namespace's policies in force use.

// CIDRs and exceptions: in equal parts to the namespaces that name them. The parts are in by_namespace.
[[nodiscard]] Usage charge_prefixes(const AtomsByNamespace& lists, const Atoms& atoms, const Limits& limits);

// Each as often as lists hold it: once to the namespace that weighs most of those that name the prefix or use
// the list.
[[nodiscard]] Usage charge_memberships(const AtomsByNamespace& lists, const Atoms& atoms,
                                       const Limits& limits);

}  // namespace sluice::policy
