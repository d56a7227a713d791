// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/peer_map.h"

#include <cstring>

namespace sluice::policy {

namespace {

auto entry_of(auto& leaf, const Address& address) {
  return std::ranges::lower_bound(leaf, address, {}, &PeerMap::Entry::first);
}

// Makes it this owner's alone. Only one thread changes maps, so a count of one does not grow meanwhile.
template <typename Node>
Node& own(std::shared_ptr<Node>& node) {
  if (!node)
    node = std::make_shared<Node>();
  else if (node.use_count() > 1)
    node = std::make_shared<Node>(*node);
  return *node;
}

}  // namespace

PeerMap::Place PeerMap::place_of(const Address& address) {
  std::array<std::uint64_t, 2> words{};
  std::memcpy(words.data(), address.bytes().data(), sizeof words);
  // Pods' addresses differ in few bits, next to each other; the multiplications spread them.
  const std::uint64_t mixed = (words[0] * 0x9e3779b97f4a7c15U ^ words[1]) * 0xbf58476d1ce4e5b9U;
  const std::uint64_t hash = (mixed ^ (mixed >> 32)) * 0x94d049bb133111ebU;
  return {hash >> (64 - kFanBits), (hash >> (64 - 2 * kFanBits)) % kFan};
}

const std::uint32_t* PeerMap::find(const Address& address) const {
  if (!root_) return nullptr;
  const Place place = place_of(address);
  const Branch* branch = (*root_)[place.branch].get();
  const Leaf* leaf = branch != nullptr ? (*branch)[place.leaf].get() : nullptr;
  if (leaf == nullptr) return nullptr;
  const auto entry = entry_of(*leaf, address);
  return entry != leaf->end() && entry->first == address ? &entry->second : nullptr;
}

PeerMap::Leaf& PeerMap::own_leaf(const Address& address) {
  const Place place = place_of(address);
  return own(own(own(root_)[place.branch])[place.leaf]);
}

void PeerMap::set(const Address& address, std::uint32_t peer_class) {
  if (const auto* known = find(address); known != nullptr && *known == peer_class) return;
  Leaf& leaf = own_leaf(address);
  const auto entry = entry_of(leaf, address);
  if (entry != leaf.end() && entry->first == address) {
    entry->second = peer_class;
    return;
  }
  leaf.insert(entry, {address, peer_class});
  ++size_;
}

void PeerMap::erase(const Address& address) {
  if (!contains(address)) return;
  Leaf& leaf = own_leaf(address);
  leaf.erase(entry_of(leaf, address));
  --size_;
}

}  // namespace sluice::policy
