// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/blocks.h"

#include <iterator>
#include <limits>
#include <unordered_map>

#include "daemon/policy/prefix_map.h"

namespace sluice::policy {

namespace {

constexpr std::uint32_t kMinusOne = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();

const Prefix& all_ipv4() {
  static const Prefix prefix(Address::from_v4(0), SLUICE_V4_PREFIX_BITS);
  return prefix;
}

// Without a prefix of their own between, IPv4 addresses would have what it has: the kernel's trie knows
// addresses in their 128-bit form only.
bool is_around_ipv4(const Prefix& prefix) { return !prefix.is_v4() && prefix.contains(all_ipv4()); }

}  // namespace

struct BlockIndex::Change {
  AtomSet lists;             // that come or go
  std::vector<bool> is_new;  // by their place there
  BlockMentions mentions;
  // Of the prefixes that go on: their sets from now on.
  std::vector<std::pair<Nodes::value_type*, std::uint32_t>> results;
  std::uint64_t more = 0, less = 0;  // memberships
  std::uint64_t of_new = 0;          // memberships of the new lists
};

BlockIndex::Cost BlockIndex::change(const AtomSet& removed, const AtomSet& added, const Atoms& atoms,
                                    const Cost& most) {
  if (const auto named = prefixes_of(added, atoms, most.prefixes).size(); named > most.prefixes)
    return {named, 0};
  Change change;
  std::ranges::merge(removed, added, std::back_inserter(change.lists));
  for (const AtomId list : change.lists) change.is_new.push_back(std::ranges::binary_search(added, list));
  change.mentions = mentions_of(change.lists, atoms);
  const auto changed_before = changed_.size();

  static_cast<void>(name_all(change, false, kMinusOne, kAll, kAll));
  const auto named = name_all(change, true, 1, kAll, most.prefixes);
  Cost cost{cost_.prefixes, 0};
  if (cost.prefixes <= most.prefixes) {
    for (const bool is_v4 : {false, true}) walk(change, is_v4, most.memberships);
    cost.memberships = std::max(change.of_new, cost_.memberships + change.more - change.less);
  }
  const bool fits = cost.prefixes <= most.prefixes && cost.memberships <= most.memberships;
  if (fits) {
    commit(change);
  } else {
    static_cast<void>(name_all(change, true, kMinusOne, named, kAll));
    static_cast<void>(name_all(change, false, 1, kAll, kAll));
  }
  remove_unnamed(change);
  if (!fits) changed_.resize(changed_before);  // the rest were new, and are gone
  forget_unused();
  return cost;
}

// Mentions come in order: mostly the place is near to that of the one before.
BlockIndex::Nodes::iterator BlockIndex::place_of(const Prefix& prefix, Nodes::iterator near) {
  for (int i = 0; i < 2; ++i) {
    if (near == nodes_.end()) break;
    if (!(near->first < prefix)) {
      if (near == nodes_.begin() || std::prev(near)->first < prefix) return near;
      break;
    }
    ++near;
  }
  return nodes_.lower_bound(prefix);
}

// As longest_match() of prefix_map.h. It looks at no length that there is not: among tens of thousands of
// host prefixes next to each other it is over at once.
BlockIndex::Nodes::const_iterator BlockIndex::longest(const Prefix& prefix) const {
  const bool is_v4 = prefix.is_v4();
  const auto& lengths = lengths_[is_v4 ? 1 : 0];
  unsigned bits = prefix.bits();
  for (;;) {
    while (bits > 0 && lengths[bits] == 0) --bits;
    if (lengths[bits] == 0) return nodes_.end();
    auto node = nodes_.upper_bound(Prefix(prefix.address(), bits));
    if (node == nodes_.begin()) return nodes_.end();
    --node;
    if (node->first.is_v4() == is_v4 && node->first.contains(prefix)) return node;
    bits = std::min(bits - 1, common_bits(node->first.address(), prefix.address()));
  }
}

BlockIndex::Nodes::iterator BlockIndex::name(const Prefix& prefix, std::uint32_t by, Nodes::iterator near) {
  auto place = place_of(prefix, near);
  if (place == nodes_.end() || place->first != prefix) {
    const auto around = longest(prefix);
    place = nodes_.emplace_hint(place, prefix, Node{0, around == nodes_.end() ? 0 : around->second.set});
    ++lengths_[prefix.is_v4() ? 1 : 0][prefix.bits()];
    use(place->second.set, 1);
    mark(prefix, place->second);
  }
  Node& node = place->second;
  if (node.named == 0) ++cost_.prefixes;
  node.named += by;
  if (node.named == 0) --cost_.prefixes;
  return place;
}

// What the new lists, or those that go, name: so many mentions at most, and none once there are more than so
// many prefixes. Returns the number of mentions.
std::uint64_t BlockIndex::name_all(const Change& change, bool added, std::uint32_t by, std::uint64_t mentions,
                                   std::uint64_t most) {
  std::uint64_t done = 0;
  for (const auto& family : change.mentions.of_family) {
    auto near = nodes_.begin();
    for (const auto& mention : family) {
      if (change.is_new[mention.list] != added) continue;
      if (done == mentions || cost_.prefixes > most) return done;
      near = name(mention.prefix, by, near);
      if (is_around_ipv4(mention.prefix)) static_cast<void>(name(all_ipv4(), by, near));
      ++done;
    }
  }
  return done;
}

// Which sets the prefixes of one family have after the change. Stops when memberships of the new lists alone
// are more than `most`.
void BlockIndex::walk(Change& change, bool is_v4, std::uint64_t most) {
  AtomSet toggled;  // those of change.lists that hold the prefix: in its set before or after, never in both
  std::uint64_t new_toggled = 0;
  std::map<AtomSet, std::uint32_t> toggled_numbers;
  std::unordered_map<std::uint64_t, std::uint32_t> results;  // by set before, number of toggled
  bool same_toggled = false;
  std::uint32_t toggled_number = 0;
  const auto toggle = [&](std::uint32_t index) {
    const AtomId list = change.lists[index];
    const auto place = std::ranges::lower_bound(toggled, list);
    const bool is_in = place != toggled.end() && *place == list;
    if (is_in)
      toggled.erase(place);
    else
      toggled.insert(place, list);
    if (change.is_new[index]) new_toggled += is_in ? kAll : 1;
    same_toggled = false;
  };
  const auto set_after = [&](std::uint32_t before) {
    if (!same_toggled)
      toggled_number =
          toggled_numbers.try_emplace(toggled, static_cast<std::uint32_t>(toggled_numbers.size()))
              .first->second;
    same_toggled = true;
    const auto [result, is_first] =
        results.try_emplace(static_cast<std::uint64_t>(before) << 32 | toggled_number);
    if (is_first) {
      AtomSet after;
      std::ranges::set_symmetric_difference(lists(before), toggled, std::back_inserter(after));
      result->second = number(std::move(after));
    }
    return result->second;
  };

  BlockWalk path(change.mentions, is_v4, toggle);
  auto node = nodes_.begin();
  for (const Prefix* outer = path.next(); outer != nullptr; outer = path.next()) {
    const Prefix region = *outer;
    node = place_of(region, node);
    while (node != nodes_.end() && region.contains(node->first)) {
      if (node->first.is_v4() != is_v4) {  // among IPv6
        node = nodes_.upper_bound(Prefix::host(last_of(all_ipv4())));
        continue;
      }
      path.enter(node->first);
      const auto before = node->second.set;
      change.less += lists(before).size();
      if (node->second.named > 0) {
        const auto after = set_after(before);
        change.results.emplace_back(&*node, after);
        change.more += lists(after).size();
        change.of_new += new_toggled;
        if (change.of_new > most) return;
      }
      ++node;
    }
  }
}

void BlockIndex::commit(const Change& change) {
  for (const auto& [entry, after] : change.results) {
    auto& [prefix, node] = *entry;
    if (node.set == after) continue;
    use(after, 1);
    use(node.set, kMinusOne);
    node.set = after;
    mark(prefix, node);
  }
}

void BlockIndex::remove_unnamed(const Change& change) {
  const auto remove = [&](const Prefix& prefix, Nodes::iterator near) {
    const auto node = place_of(prefix, near);
    if (node == nodes_.end() || node->first != prefix || node->second.named > 0) return node;
    mark(prefix, node->second);
    use(node->second.set, kMinusOne);
    --lengths_[prefix.is_v4() ? 1 : 0][prefix.bits()];
    return nodes_.erase(node);
  };
  for (const auto& family : change.mentions.of_family) {
    auto near = nodes_.begin();
    for (const auto& mention : family) near = remove(mention.prefix, near);
  }
  static_cast<void>(remove(all_ipv4(), nodes_.begin()));
}

void BlockIndex::mark(const Prefix& prefix, Node& node) {
  if (!std::exchange(node.changed, true)) changed_.push_back(prefix);
}

std::uint32_t BlockIndex::number(AtomSet&& lists) {
  const auto [known, is_new] = numbers_.try_emplace(std::move(lists), 0);
  if (is_new) {
    if (free_numbers_.empty()) {
      known->second = static_cast<std::uint32_t>(sets_.size());
      sets_.emplace_back();
    } else {
      known->second = free_numbers_.back();
      free_numbers_.pop_back();
    }
    sets_[known->second] = {&known->first, 0};
    maybe_unused_.push_back(known->second);
  }
  return known->second;
}

// By a node more, or one less.
void BlockIndex::use(std::uint32_t set, std::uint32_t by) {
  sets_[set].uses += by;
  if (by == 1)
    cost_.memberships += lists(set).size();
  else
    cost_.memberships -= lists(set).size();
  if (sets_[set].uses == 0) maybe_unused_.push_back(set);
}

void BlockIndex::forget_unused() {
  for (const auto set : std::exchange(maybe_unused_, {})) {
    if (sets_[set].uses > 0 || sets_[set].lists == nullptr) continue;
    const auto known = numbers_.find(*sets_[set].lists);
    sets_[set].lists = nullptr;
    numbers_.erase(known);
    free_numbers_.push_back(set);
  }
}

const Prefix* BlockIndex::longest(const Address& address) const {
  const auto node = longest(Prefix::host(address));
  return node == nodes_.end() ? nullptr : &node->first;
}

std::uint32_t BlockIndex::set_of(const Address& address) const {
  const auto node = longest(Prefix::host(address));
  return node == nodes_.end() ? 0 : node->second.set;
}

}  // namespace sluice::policy
