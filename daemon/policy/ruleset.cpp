// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/ruleset.h"

#include "daemon/policy/prefix_map.h"

namespace sluice::policy {

std::uint32_t Ruleset::class_of(const Address& address) const {
  if (const auto* peer = peers.find(address)) return *peer;
  const auto block = longest_match(blocks.map(), address);
  return block == blocks.end() ? 0 : block->second;
}

}  // namespace sluice::policy
