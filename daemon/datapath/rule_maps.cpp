// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/rule_maps.h"

#include <arpa/inet.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "common/fault_point.h"
#include "daemon/datapath/longest_prefix.h"

namespace sluice::datapath {

namespace {

constexpr unsigned kPortKeyFixedBits = 40;  // table and protocol

sluice_route_key abi_of(const Prefix& prefix) { return prefix.abi(); }
sluice_row_key abi_of(const policy::RowKey& key) { return {key.table, key.peer_class, key.page}; }

sluice_row abi_of(const policy::Row& row) {
  sluice_row value{};
  std::copy(row.begin(), row.end(), value.bits);
  return value;
}

sluice_port_key abi_of(const policy::PortKey& key) {
  sluice_port_key value{};
  value.prefix_len = kPortKeyFixedBits + key.port_bits;
  value.table_be = htonl(key.table);
  value.proto = key.protocol;
  value.port_be[0] = static_cast<std::uint8_t>(key.port >> 8);
  value.port_be[1] = static_cast<std::uint8_t>(key.port & 0xff);
  return value;
}

sluice_peer bound_to(const sluice_addr& address, const Classes& classes) {
  sluice_peer value{};
  for (std::size_t slot = 0; slot < classes.size(); ++slot)
    value.bound_class[slot] = sluice_peer_bind(&address, classes[slot]);
  return value;
}

// What the programs make of it: another address's is no class that any row has.
Classes unbind(const sluice_addr& address, const sluice_peer& value) {
  Classes classes{};
  for (std::size_t slot = 0; slot < classes.size(); ++slot) {
    const auto number = static_cast<std::uint32_t>(value.bound_class[slot]);
    classes[slot] = value.bound_class[slot] == sluice_peer_bind(&address, number) ? number : SLUICE_NO_CLASS;
  }
  return classes;
}

sluice_peer_block abi_of(const Classes& classes) {
  sluice_peer_block value{};
  std::copy(classes.begin(), classes.end(), value.peer_class);
  return value;
}

Classes from_abi(const sluice_peer_block& value) { return std::to_array(value.peer_class); }

policy::RowKey from_abi(const sluice_row_key& key) { return {key.table, key.peer_class, key.page}; }

policy::PortKey from_abi(const sluice_port_key& key) {
  return {ntohl(key.table_be), key.proto, static_cast<std::uint16_t>(key.port_be[0] << 8 | key.port_be[1]),
          static_cast<std::uint8_t>(key.prefix_len - kPortKeyFixedBits)};
}

Prefix from_abi(const sluice_route_key& key) { return {Address::from_abi(key.addr), key.prefix_len}; }

template <typename K, typename V>
struct Changes {
  std::vector<K> keys;
  std::vector<V> values;
  void add(const K& key, const V& value) {
    keys.push_back(key);
    values.push_back(value);
  }
};

// What `wanted` has and `present` has not.
template <typename Key, typename Value, typename Map>
Result<void> add_missing(const std::map<Key, Value>& wanted, std::set<Key>& present, const Map& map,
                         const auto& value_of) {
  Changes<decltype(abi_of(Key())), decltype(value_of(Value()))> changes;
  std::vector<Key> added;
  for (const auto& [key, value] : wanted) {
    if (present.contains(key)) continue;
    changes.add(abi_of(key), value_of(value));
    added.push_back(key);
  }
  // Taken as present even if not all could be written: what may be there has to be taken away again.
  present.insert(added.begin(), added.end());
  return map.update(changes.keys, changes.values);
}

template <typename Present, typename Wanted>
bool fit(const Present& present, const Wanted& wanted, std::size_t room) {
  if (present.size() + wanted.size() <= room) return true;
  const auto missing =
      std::ranges::count_if(wanted, [&](const auto& each) { return !present.contains(each.first); });
  return present.size() + static_cast<std::size_t>(missing) <= room;
}

template <typename Keys, typename Wanted, typename Map>
Result<void> remove_unwanted(Keys& present, const Wanted& wanted, const Map& map, const auto& key_of) {
  for (auto it = present.begin(); it != present.end();) {
    if (wanted.contains(key_of(it))) {
      ++it;
      continue;
    }
    if (auto done = map.erase(abi_of(key_of(it))); !done) return tl::unexpected(done.error());
    it = present.erase(it);
  }
  return {};
}

}  // namespace

Result<void> RuleMaps::open() {
  auto peers = Map<sluice_addr, sluice_peer>::open(pins_.map("peers"));
  if (!peers) return tl::unexpected(peers.error());
  peers_map_ = std::move(*peers);
  return read();
}

Result<void> RuleMaps::read() {
  auto peers = peers_map_.entries();
  if (!peers) return tl::unexpected(peers.error());
  auto blocks = maps_.peer_blocks.entries();
  if (!blocks) return tl::unexpected(blocks.error());
  auto rows = maps_.tables.entries();
  if (!rows) return tl::unexpected(rows.error());
  auto ports = maps_.port_classes.entries();
  if (!ports) return tl::unexpected(ports.error());
  peers_.clear();
  blocks_.clear();
  rows_.clear();
  ports_.clear();
  in_slot_ = {};
  wanted_ = {};
  leftovers_.clear();
  left_out_.clear();
  for (const auto& [key, value] : *peers) {
    const auto address = Address::from_abi(key);
    peers_.emplace(address, unbind(key, value));
    leftovers_.insert(address);
  }
  for (const auto& [key, value] : *blocks) blocks_.emplace(from_abi(key), from_abi(value));
  for (const auto& [key, value] : *rows) rows_.insert(from_abi(key));
  for (const auto& [key, value] : *ports) ports_.insert(from_abi(key));
  return {};
}

bool RuleMaps::has_room_for(const policy::Ruleset& ruleset) const {
  return fit(rows_, ruleset.rows, SLUICE_MAX_TABLE_ROWS) &&
         fit(ports_, ruleset.port_classes, SLUICE_MAX_PORT_CLASSES) &&
         fit(blocks_, ruleset.blocks, SLUICE_MAX_PEER_BLOCKS);
}

bool RuleMaps::has_room_for_peers(const policy::Ruleset& ruleset) const {
  const auto capacity = peers_map_.raw().max_entries();
  return capacity >= most_peers_ || ruleset.peers.size() + leftovers_.size() <= capacity;
}

Result<void> RuleMaps::make_room(const policy::Ruleset& ruleset) {
  const auto wanted = std::bit_ceil(2 * (ruleset.peers.size() + leftovers_.size()));
  auto larger =
      peers_map_.raw().make_larger(static_cast<std::uint32_t>(std::min<std::size_t>(wanted, most_peers_)));
  if (!larger) return tl::unexpected(larger.error());
  Map<sluice_addr, sluice_peer> map(std::move(*larger));
  Changes<sluice_addr, sluice_peer> all;
  for (const auto& [address, classes] : peers_) all.add(address.abi(), bound_to(address.abi(), classes));
  if (auto done = map.update(all.keys, all.values); !done) return done;
  smaller_ = std::exchange(peers_map_, std::move(map));
  return {};
}

// A daemon that is killed before it is pinned leaves a program that has the larger one and the smaller one
// pinned: the next daemon writes nothing for that program, and gives its own first generation a map.
void RuleMaps::keep_room() {
  if (!std::exchange(smaller_, std::nullopt)) return;
  if (auto done = Pins::put(peers_map_.raw().fd(), pins_.map("peers")); !done)
    spdlog::warn("the larger map of peers is not pinned: {}", done.error().message);
}

void RuleMaps::give_room_back() {
  if (!smaller_) return;
  peers_map_ = std::move(*smaller_);
  smaller_.reset();
  static_cast<void>(read());
}

Result<void> RuleMaps::add_tables(const policy::Ruleset& ruleset) {
  auto added = add_missing(ruleset.port_classes, ports_, maps_.port_classes, [](std::uint32_t number) {
                 return number;
               }).and_then([&] {
    return add_missing(ruleset.rows, rows_, maps_.tables, [](const policy::Row& row) { return abi_of(row); });
  });
  // After a failure nobody knows how much of it is there.
  if (!added) static_cast<void>(read());
  return added;
}

Result<bool> RuleMaps::write_slot(std::uint32_t slot, const policy::Ruleset& ruleset) {
  auto blocks = write_blocks(slot, ruleset);
  if (!blocks) return blocks;
  SLUICE_FAILURE_POINT("rules.blocks_written");
  auto peers = write_peers(slot, ruleset);
  if (!peers) return peers;
  return *blocks || *peers;
}

Result<bool> RuleMaps::write_blocks(std::uint32_t slot, const policy::Ruleset& ruleset) {
  const LongestPrefix<std::uint32_t> wanted(ruleset.blocks);
  const LongestPrefix<Classes> present(blocks_);
  std::map<Prefix, Classes> changed;
  for (const auto& [prefix, value] : blocks_) {
    const auto* peer_class = wanted.find(prefix);
    const std::uint32_t now = peer_class != nullptr ? *peer_class : 0;
    if (value[slot] == now) continue;
    changed.emplace(prefix, value).first->second[slot] = now;
  }
  for (const auto& [prefix, peer_class] : ruleset.blocks) {
    if (blocks_.contains(prefix)) continue;
    // A new, more specific prefix answers for the other slots as the one that covered it did.
    const auto* covering = present.find(prefix);
    changed.emplace(prefix, covering != nullptr ? *covering : Classes{}).first->second[slot] = peer_class;
  }
  Changes<sluice_route_key, sluice_peer_block> changes;
  for (const auto& [prefix, value] : changed) changes.add(prefix.abi(), abi_of(value));
  if (auto done = maps_.peer_blocks.update(changes.keys, changes.values); !done) {
    static_cast<void>(read());
    return tl::unexpected(done.error());
  }
  for (const auto& [prefix, value] : changed) blocks_.insert_or_assign(prefix, value);
  return !changed.empty();
}

// Costs what differs from the last time, not what there is.
Result<bool> RuleMaps::write_peers(std::uint32_t slot, const policy::Ruleset& ruleset) {
  const LongestPrefix<std::uint32_t> wanted(ruleset.blocks);
  const LongestPrefix<Classes> present(blocks_);
  std::vector<std::pair<Address, Classes>> changed;
  const auto set = [&](const Address& address, Classes value, std::uint32_t peer_class) {
    if (value[slot] == peer_class) return;
    value[slot] = peer_class;
    changed.emplace_back(address, value);
  };
  std::unordered_set<Address> left_out;
  std::size_t room = peers_map_.raw().max_entries() - peers_.size();
  const auto write = [&](const Address& address, const auto*, const auto* peer_class) {
    if (peer_class == nullptr) return true;  // below
    if (const auto known = peers_.find(address); known != peers_.end()) {
      set(address, known->second, *peer_class);
    } else if (room == 0) {
      left_out.insert(address);
    } else {
      --room;
      // A hit in `peers` is final, so the new element answers for the other slots as the blocks did.
      const auto* covering = present.find(Prefix::host(address));
      changed.emplace_back(address, covering != nullptr ? *covering : Classes{});
      changed.back().second[slot] = *peer_class;
    }
    return true;
  };
  policy::PeerMap::differences(in_slot_[slot], ruleset.peers, write);
  want(ruleset.peers);
  for (const auto& address : leftovers_) {
    const auto* block = wanted.find(Prefix::host(address));
    set(address, peers_.at(address), block != nullptr ? *block : 0);
  }
  Changes<sluice_addr, sluice_peer> changes;
  for (const auto& [address, value] : changed) changes.add(address.abi(), bound_to(address.abi(), value));
  if (auto done = peers_map_.update(changes.keys, changes.values); !done) {
    static_cast<void>(read());
    return tl::unexpected(done.error());
  }
  for (const auto& [address, value] : changed) peers_.insert_or_assign(address, value);
  in_slot_[slot] = ruleset.peers;
  for (const auto& address : left_out) in_slot_[slot].erase(address);
  left_out_ = std::move(left_out);
  return !changed.empty();
}

void RuleMaps::want(const policy::PeerMap& peers) {
  policy::PeerMap::differences(wanted_, peers,
                               [&](const Address& address, const auto* before, const auto* after) {
                                 if (before == nullptr) leftovers_.erase(address);
                                 if (after == nullptr && peers_.contains(address)) leftovers_.insert(address);
                                 return true;
                               });
  wanted_ = peers;
}

Result<void> RuleMaps::retire_peers(const policy::Ruleset& ruleset) {
  for (auto it = leftovers_.begin(); it != leftovers_.end();) {
    if (ruleset.peers.contains(*it)) {
      ++it;
      continue;
    }
    if (auto done = peers_map_.erase(it->abi()); !done) return tl::unexpected(done.error());
    peers_.erase(*it);
    for (auto& known : in_slot_) known.erase(*it);
    it = leftovers_.erase(it);
  }
  return {};
}

Result<void> RuleMaps::retire_all_but(const policy::Ruleset& ruleset) {
  const auto itself = [](const auto& it) { return *it; };
  const auto first = [](const auto& it) { return it->first; };
  // Addresses and blocks before the rows of the classes that they lead to.
  if (auto done = retire_peers(ruleset); !done) return done;
  SLUICE_FAILURE_POINT("collect.peers_retired");
  if (auto done = remove_unwanted(blocks_, ruleset.blocks, maps_.peer_blocks, first); !done) return done;
  SLUICE_FAILURE_POINT("collect.blocks_retired");
  if (auto done = remove_unwanted(rows_, ruleset.rows, maps_.tables, itself); !done) return done;
  SLUICE_FAILURE_POINT("collect.rows_retired");
  if (auto done = remove_unwanted(ports_, ruleset.port_classes, maps_.port_classes, itself); !done)
    return done;
  SLUICE_FAILURE_POINT("collect.ports_retired");
  return {};
}

Datapath::Numbers RuleMaps::free_numbers() const {
  Datapath::Numbers free;
  const auto above = [](std::uint32_t& first, std::uint32_t used) { first = std::max(first, used + 1); };
  for (const auto& key : rows_) {
    above(free.table, key.table);
    if (key.peer_class != SLUICE_NO_CLASS) above(free.peer_class, key.peer_class);
  }
  for (const auto& key : ports_) above(free.port_table, key.table);
  const auto classes = [&](const Classes& value) {
    for (const auto peer_class : value)
      if (peer_class != SLUICE_NO_CLASS) above(free.peer_class, peer_class);
  };
  for (const auto& [address, value] : peers_) classes(value);
  for (const auto& [prefix, value] : blocks_) classes(value);
  return free;
}

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
