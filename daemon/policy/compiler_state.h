// SPDX-License-Identifier: Apache-2.0
// What a compiler keeps from one ruleset to the next, and the steps between.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "daemon/policy/atom.h"
#include "daemon/policy/blocks.h"
#include "daemon/policy/compiler.h"
#include "daemon/policy/identities.h"
#include "daemon/policy/limits.h"
#include "daemon/policy/peer_pods.h"
#include "daemon/policy/policies.h"
#include "daemon/policy/row_charges.h"
#include "daemon/policy/tables.h"

namespace sluice::policy {

struct Compiler::State {
  struct KnownEndpoint {
    std::string key;  // of its pod
    std::shared_ptr<const model::Pod> pod;
    std::shared_ptr<Identity> identity;
    bool is_pod = false;  // without an identity: a pod that is not known, which is closed
  };

  State(const FirstNumbers& first, const Limits& most)
      : limits(most),
        peers(atoms, blocks, first.peer_class),
        policies(limits, blocks),
        tables(first.table, first.port_table, limits) {}

  void follow(const Cluster& cluster, const Changes& changes);
  void follow_all(const Cluster& cluster);
  bool follow_endpoint(const Cluster& cluster, std::uint32_t id);
  void forget_endpoint(std::map<std::uint32_t, KnownEndpoint>::iterator endpoint);
  [[nodiscard]] bool follow_in_force();
  [[nodiscard]] Tables::NamedPorts named_ports_of_peers() const;
  [[nodiscard]] bool add_tables(Ruleset& ruleset);
  [[nodiscard]] bool add_rows(const NamespaceOfTable& by_table, Ruleset& ruleset);
  [[nodiscard]] bool add_port_classes(const NamespaceOfTable& by_port_table, Ruleset& ruleset);
  [[nodiscard]] AtomsByNamespace atoms_by_namespace() const;
  [[nodiscard]] std::shared_ptr<const Ruleset> make_ruleset(bool rules_changed);
  void sweep(const Ruleset& ruleset, unsigned kept);

  const Limits limits;
  Atoms atoms{kEveryone + 1};
  BlockIndex blocks;
  PeerPods peers;
  Policies policies;
  Tables tables;

  std::map<std::uint32_t, KnownEndpoint> endpoints;
  std::map<std::string, std::set<std::uint32_t>> endpoints_of;  // by the key of their pod; none is empty
  bool endpoints_changed = false;
  unsigned compiles = 0;
  std::uint64_t grown = 0;  // by what was compiled since the last sweep: prefixes, words of tables
  std::shared_ptr<const Ruleset> last;
};

}  // namespace sluice::policy
