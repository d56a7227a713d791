// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstring>
#include <map>
#include <set>

#include "daemon/datapath/longest_prefix.h"
#include "daemon/datapath/rule_maps.h"
#include "daemon/datapath/rule_maps_abi.h"

namespace sluice::datapath {

Result<void> RuleMaps::audit(std::uint32_t slot, const policy::Ruleset& ruleset,
                             std::vector<std::string>& differences) const {
  if (auto done = audit_peers(slot, ruleset, differences); !done) return done;
  return audit_tables(ruleset, differences);
}

Result<void> RuleMaps::audit_peers(std::uint32_t slot, const policy::Ruleset& ruleset,
                                   std::vector<std::string>& differences) const {
  const LongestPrefix<std::uint32_t> wanted(ruleset.blocks);
  const auto class_of = [&](const Prefix& prefix) {
    const auto* found = wanted.find(prefix);
    return found != nullptr ? *found : 0;
  };
  auto peers = peers_map_.entries();
  if (!peers) return tl::unexpected(peers.error());
  std::set<Address> seen;
  for (const auto& [key, value] : *peers) {
    const auto address = Address::from_abi(key);
    seen.insert(address);
    const auto* known = ruleset.peers.find(address);
    const auto now = known != nullptr ? *known : class_of(Prefix::host(address));
    if (const auto present = unbind(key, value)[slot]; present == SLUICE_NO_CLASS)
      differences.push_back(fmt::format("peers: {} has the class of another address", address.to_string()));
    else if (present != now)
      differences.push_back(fmt::format("peers: {} has class {}, not {}", address.to_string(), present, now));
  }
  ruleset.peers.for_each([&](const Address& address, std::uint32_t) {
    if (!seen.contains(address) && !left_out_.contains(address))
      differences.push_back(fmt::format("peers: {} is missing", address.to_string()));
  });

  auto blocks = maps_.peer_blocks.entries();
  if (!blocks) return tl::unexpected(blocks.error());
  std::set<Prefix> found;
  for (const auto& [key, value] : *blocks) {
    const auto prefix = from_abi(key);
    found.insert(prefix);
    if (value.peer_class[slot] != class_of(prefix))
      differences.push_back(fmt::format("peer_blocks: {} has class {}, not {}", prefix.to_string(),
                                        value.peer_class[slot], class_of(prefix)));
  }
  for (const auto& [prefix, peer_class] : ruleset.blocks)
    if (!found.contains(prefix))
      differences.push_back(fmt::format("peer_blocks: {} is missing", prefix.to_string()));
  return {};
}

// What is there beyond the ruleset is harmless until collect() takes it away: nothing leads to it.
Result<void> RuleMaps::audit_tables(const policy::Ruleset& ruleset,
                                    std::vector<std::string>& differences) const {
  auto rows = maps_.tables.entries();
  if (!rows) return tl::unexpected(rows.error());
  std::map<policy::RowKey, sluice_row> present;
  for (const auto& [key, value] : *rows) present.emplace(from_abi(key), value);
  for (const auto& [key, row] : ruleset.rows) {
    const auto found = present.find(key);
    const auto value = abi_of(row);
    const auto name =
        fmt::format("tables: row of table {}, class {}, page {}", key.table, key.peer_class, key.page);
    if (found == present.end())
      differences.push_back(name + " is missing");
    else if (std::memcmp(&found->second, &value, sizeof value) != 0)
      differences.push_back(name + " differs");
  }
  auto ports = maps_.port_classes.entries();
  if (!ports) return tl::unexpected(ports.error());
  std::map<policy::PortKey, std::uint32_t> classes;
  for (const auto& [key, value] : *ports) classes.emplace(from_abi(key), value);
  for (const auto& [key, number] : ruleset.port_classes) {
    const auto found = classes.find(key);
    if (found == classes.end() || found->second != number)
      differences.push_back(fmt::format("port_classes: protocol {} port {}/{} of port table {} {}",
                                        key.protocol, key.port, key.port_bits, key.table,
                                        found == classes.end() ? "is missing" : "differs"));
  }
  return {};
}

}  // namespace sluice::datapath
