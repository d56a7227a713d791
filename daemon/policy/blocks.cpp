// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/blocks.h"

#include <algorithm>

#include "daemon/policy/prefix_map.h"

namespace sluice::policy {

namespace {

// In the 128-bit form an IPv6 prefix such as ::/0 holds the IPv4-mapped addresses too, which are no IPv6
// addresses.
bool covers(const Prefix& outer, const Prefix& inner) {
  return outer.is_v4() == inner.is_v4() && outer.contains(inner);
}

}  // namespace

void BlockIndex::set(const AtomSet& in_force, const Atoms& atoms) {
  std::map<Prefix, AtomSet> members;
  for (const AtomId atom : in_force) {
    const auto& block = std::get<model::IpBlock>(atoms.content(atom));
    members.try_emplace(block.cidr);
    for (const auto& except : block.except) members.try_emplace(except);
  }
  const Prefix all_ipv4(Address::from_v4(0), SLUICE_V4_PREFIX_BITS);
  const bool around_ipv4 = std::ranges::any_of(
      members, [&](const auto& entry) { return !entry.first.is_v4() && entry.first.contains(all_ipv4); });
  if (around_ipv4) members.try_emplace(all_ipv4);

  for (const AtomId atom : in_force) {
    const auto& block = std::get<model::IpBlock>(atoms.content(atom));
    // All that a prefix contains follows it in the map's order.
    for (auto it = members.find(block.cidr); it != members.end() && block.cidr.contains(it->first); ++it) {
      const auto excepted = [&](const Prefix& except) { return covers(except, it->first); };
      if (covers(block.cidr, it->first) && std::ranges::none_of(block.except, excepted))
        it->second.push_back(atom);
    }
  }

  std::map<AtomSet, std::uint32_t> numbers{{AtomSet(), 0}};
  sets_.assign(1, AtomSet());
  prefixes_.clear();
  for (const auto& [prefix, blocks] : members) {
    const auto [it, added] = numbers.try_emplace(blocks, static_cast<std::uint32_t>(sets_.size()));
    if (added) sets_.push_back(blocks);
    prefixes_.emplace_hint(prefixes_.end(), prefix, it->second);
  }
}

std::uint32_t BlockIndex::set_of(const Address& address) const {
  const auto prefix = longest_match(prefixes_, address);
  return prefix == prefixes_.end() ? 0 : prefix->second;
}

}  // namespace sluice::policy
