// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "common/address.h"

namespace sluice::policy {

// Address -> class, as a value whose copies share what they have in common: a copy costs nothing, a change
// what lies on the way to one address, and a comparison only what differs. So rulesets of a hundred thousand
// peers can follow each other at each change of a pod.
class PeerMap {
 public:
  using Entry = std::pair<Address, std::uint32_t>;

  PeerMap() = default;
  PeerMap(std::initializer_list<Entry> entries) {
    for (const auto& [address, peer_class] : entries) set(address, peer_class);
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  // nullptr: it is not there.
  [[nodiscard]] const std::uint32_t* find(const Address& address) const;
  [[nodiscard]] bool contains(const Address& address) const { return find(address) != nullptr; }
  void set(const Address& address, std::uint32_t peer_class);
  void erase(const Address& address);

  // visit(address, peer_class), in no order.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    static_cast<void>(
        differences(PeerMap(), *this, [&](const Address& address, auto, const auto* peer_class) {
          visit(address, *peer_class);
          return true;
        }));
  }

  // visit(address, before, after) for each address whose class differs, nullptr where it is not there. False
  // from it ends the walk, and is returned then.
  template <typename Visit>
  static bool differences(const PeerMap& before, const PeerMap& after, Visit&& visit) {
    if (before.root_ == after.root_) return true;
    for (std::size_t i = 0; i < kFan; ++i) {
      const Branch* old_branch = before.root_ ? (*before.root_)[i].get() : nullptr;
      const Branch* new_branch = after.root_ ? (*after.root_)[i].get() : nullptr;
      if (old_branch == new_branch) continue;
      for (std::size_t j = 0; j < kFan; ++j) {
        const Leaf* old_leaf = old_branch != nullptr ? (*old_branch)[j].get() : nullptr;
        const Leaf* new_leaf = new_branch != nullptr ? (*new_branch)[j].get() : nullptr;
        if (old_leaf != new_leaf && !differences(old_leaf, new_leaf, visit)) return false;
      }
    }
    return true;
  }

  bool operator==(const PeerMap& other) const {
    return size_ == other.size_ &&
           differences(*this, other, [](const Address&, const auto*, const auto*) { return false; });
  }

 private:
  static constexpr unsigned kFanBits = 7;
  static constexpr std::size_t kFan = 1U << kFanBits;
  using Leaf = std::vector<Entry>;  // sorted
  using Branch = std::array<std::shared_ptr<Leaf>, kFan>;
  using Root = std::array<std::shared_ptr<Branch>, kFan>;

  struct Place {
    std::size_t branch = 0, leaf = 0;
  };
  [[nodiscard]] static Place place_of(const Address& address);
  // The leaf of the address, which this map alone has from then on.
  [[nodiscard]] Leaf& own_leaf(const Address& address);

  template <typename Visit>
  static bool differences(const Leaf* before, const Leaf* after, Visit& visit) {
    static const Leaf kNone;
    const Leaf& old_entries = before != nullptr ? *before : kNone;
    const Leaf& new_entries = after != nullptr ? *after : kNone;
    auto old_entry = old_entries.begin();
    auto new_entry = new_entries.begin();
    const std::uint32_t* nothing = nullptr;
    while (old_entry != old_entries.end() || new_entry != new_entries.end()) {
      const bool only_old = new_entry == new_entries.end() ||
                            (old_entry != old_entries.end() && old_entry->first < new_entry->first);
      const bool only_new = old_entry == old_entries.end() ||
                            (new_entry != new_entries.end() && new_entry->first < old_entry->first);
      bool go_on = true;
      if (only_old) {
        go_on = visit(old_entry->first, &old_entry->second, nothing);
      } else if (only_new) {
        go_on = visit(new_entry->first, nothing, &new_entry->second);
      } else if (old_entry->second != new_entry->second) {
        go_on = visit(old_entry->first, &old_entry->second, &new_entry->second);
      }
      if (!go_on) return false;
      if (!only_new) ++old_entry;
      if (!only_old) ++new_entry;
    }
    return true;
  }

  std::shared_ptr<Root> root_;
  std::size_t size_ = 0;
};

}  // namespace sluice::policy
