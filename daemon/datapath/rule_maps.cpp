// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/rule_maps.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "common/fault_point.h"
#include "daemon/datapath/longest_prefix.h"
#include "daemon/datapath/rule_maps_abi.h"

namespace sluice::datapath {

namespace {

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

// True: it was another one in one of the slots.
bool set_in(const RuleMaps::Slots& slots, Classes& value, std::uint32_t peer_class) {
  const Classes before = value;
  for (std::size_t slot = 0; slot < slots.size(); ++slot)
    if (slots[slot]) value[slot] = peer_class;
  return value != before;
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

Result<bool> RuleMaps::write_slots(const Slots& slots, const policy::Ruleset& ruleset) {
  auto blocks = write_blocks(slots, ruleset);
  if (!blocks) return blocks;
  SLUICE_FAILURE_POINT("rules.blocks_written");
  auto peers = write_peers(slots, ruleset);
  if (!peers) return peers;
  return *blocks || *peers;
}

Result<bool> RuleMaps::write_blocks(const Slots& slots, const policy::Ruleset& ruleset) {
  const LongestPrefix<std::uint32_t> wanted(ruleset.blocks);
  const LongestPrefix<Classes> present(blocks_);
  std::map<Prefix, Classes> changed;
  const auto set = [&](const Prefix& prefix, Classes value, std::uint32_t peer_class) {
    if (set_in(slots, value, peer_class)) changed.emplace(prefix, value);
  };
  for (const auto& [prefix, value] : blocks_) {
    const auto* peer_class = wanted.find(prefix);
    set(prefix, value, peer_class != nullptr ? *peer_class : 0);
  }
  for (const auto& [prefix, peer_class] : ruleset.blocks) {
    if (blocks_.contains(prefix)) continue;
    // A new, more specific prefix answers for the other slots as the one that covered it did.
    const auto* covering = present.find(prefix);
    Classes value = covering != nullptr ? *covering : Classes{};
    set_in(slots, value, peer_class);
    changed.emplace(prefix, value);
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
Result<bool> RuleMaps::write_peers(const Slots& slots, const policy::Ruleset& ruleset) {
  const LongestPrefix<std::uint32_t> wanted(ruleset.blocks);
  const LongestPrefix<Classes> present(blocks_);
  std::unordered_map<Address, Classes> changed;
  const auto set = [&](const Address& address, Classes value, std::uint32_t peer_class) {
    if (set_in(slots, value, peer_class)) changed.emplace(address, value);
  };
  std::unordered_set<Address> left_out;
  std::size_t room = peers_map_.raw().max_entries() - peers_.size();
  const auto write = [&](const Address& address, const auto*, const auto* peer_class) {
    // Those that are gone: below. Those that differ in several slots: once.
    if (peer_class == nullptr || changed.contains(address) || left_out.contains(address)) return true;
    if (const auto known = peers_.find(address); known != peers_.end()) {
      set(address, known->second, *peer_class);
    } else if (room == 0) {
      left_out.insert(address);
    } else {
      --room;
      // A hit in `peers` is final, so the new element answers for the other slots as the blocks did.
      const auto* covering = present.find(Prefix::host(address));
      Classes value = covering != nullptr ? *covering : Classes{};
      set_in(slots, value, *peer_class);
      changed.emplace(address, value);
    }
    return true;
  };
  for (std::size_t slot = 0; slot < slots.size(); ++slot)
    if (slots[slot]) policy::PeerMap::differences(in_slot_[slot], ruleset.peers, write);
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
  policy::PeerMap written = ruleset.peers;
  for (const auto& address : left_out) written.erase(address);
  for (std::size_t slot = 0; slot < slots.size(); ++slot)
    if (slots[slot]) in_slot_[slot] = written;
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

}  // namespace sluice::datapath
