// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "daemon/model/by_name.h"
#include "daemon/policy/atom.h"
#include "daemon/policy/block_classes.h"
#include "daemon/policy/blocks.h"
#include "daemon/policy/identities.h"
#include "daemon/policy/peer_map.h"
#include "daemon/policy/tables.h"

namespace sluice::policy {

// The pods of the cluster as peers: which address is in which class. A change costs the addresses that it
// concerns, not those that there are.
class PeerPods {
 public:
  PeerPods(Atoms& atoms, BlockIndex& blocks, std::uint32_t first_class)
      : atoms_(atoms), classes_(first_class), blocks_(blocks) {}

  [[nodiscard]] Identities& identities() { return identities_; }

  // The pod under that key ("namespace/name") as it is now; nullptr: there is none.
  void set_pod(const std::string& key, const std::shared_ptr<const model::Pod>& now);
  template <typename Visit>
  void for_each_key(Visit&& visit) const {
    for (const auto& pod : pods_) visit(pod.source->ns + "/" + pod.source->name);
  }
  // The blocks are others than before.
  void follow_blocks();
  // The egress rules' ports by name in force, and which of them came or went.
  void set_name_uses(const std::map<PortName, AtomSet>& in_force, const std::vector<NameUse>& changes);

  // Makes the classes what they are after all that was set. True: others are in use than before.
  bool update();
  [[nodiscard]] const PeerMap& map() const { return map_; }
  [[nodiscard]] const BlockClasses& blocks() const { return block_classes_; }
  [[nodiscard]] const ClassIndex& index() const { return index_; }
  [[nodiscard]] const AtomSet& content(std::uint32_t peer_class) const {
    return classes_.content(peer_class);
  }
  // Of classes that are out of use.
  void sweep(unsigned kept);

 private:
  struct NameOf {
    model::NamespacedName operator()(const KnownPod& pod) const { return {pod.source->ns, pod.source->name}; }
  };

  void add(const KnownPod& pod);
  void take_away(const KnownPod& pod);
  void mark(const Identity& identity);
  void mark_within(const Prefix& prefix);
  void refresh(const Address& address);
  [[nodiscard]] const KnownPod* holder_of(const Address& address) const;
  [[nodiscard]] std::uint32_t class_of(Identity& identity, std::uint32_t block_set);
  void use(std::uint32_t peer_class, int by);
  [[nodiscard]] bool settle(std::uint32_t peer_class);

  Atoms& atoms_;
  Interner<AtomSet> classes_;
  Identities identities_;
  std::unordered_set<KnownPod, model::HashByName<NameOf>, model::EqualByName<NameOf>> pods_;
  std::multimap<Address, const KnownPod*> addresses_;  // of pods_, as far as they are peers
  BlockIndex& blocks_;
  std::map<PortName, AtomSet> name_uses_;
  std::uint64_t revision_ =
      0;  // of blocks_, name_uses_ and classes_: with another, identities' classes are void
  PeerMap map_;
  BlockClasses block_classes_;
  std::unordered_map<std::uint32_t, std::uint32_t> uses_{
      {0, 1}};  // class -> by how many addresses and blocks
  ClassIndex index_{{0}, {}};
  std::vector<Address> dirty_;       // may have another class
  std::set<std::uint32_t> touched_;  // classes that may have come into use, or gone
};

}  // namespace sluice::policy
