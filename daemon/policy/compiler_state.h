// SPDX-License-Identifier: Apache-2.0
// What a compiler keeps from one ruleset to the next, and the steps between.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "daemon/policy/atom.h"
#include "daemon/policy/blocks.h"
#include "daemon/policy/compiled_policy.h"
#include "daemon/policy/compiler.h"
#include "daemon/policy/identities.h"
#include "daemon/policy/limits.h"
#include "daemon/policy/refusals.h"
#include "daemon/policy/tables.h"

namespace sluice::policy {

struct Compiler::State {
  struct KnownPod {
    std::shared_ptr<const model::Pod> source;
    std::shared_ptr<Identity> identity;  // none: no peer
  };

  struct KnownPolicy {
    std::shared_ptr<const model::NetworkPolicy> source;
    std::unique_ptr<CompiledPolicy> compiled;
  };

  struct KnownEndpoint {
    std::shared_ptr<const model::Pod> pod;
    std::shared_ptr<Identity> identity;
    bool is_pod = false;  // without an identity: a pod that is not known, which is closed
  };

  using Sharers = std::map<std::uint32_t, std::string_view>;  // table or port table -> namespace that has it

  struct PeerAddress {
    Address address;
    Identity* identity = nullptr;
    std::uint32_t block_set = 0;
  };

  State(const FirstNumbers& first, const Limits& most)
      : limits(most),
        classes(first.peer_class),
        tables(first.table, first.port_table, limits),
        refusals(limits) {}

  bool follow_policies(const Cluster& cluster);
  bool follow_pods(const Cluster& cluster);
  bool follow_endpoints(const Cluster& cluster);
  void choose_locals();
  struct Said {
    AtomSet predicates, blocks;
    std::map<PortName, AtomSet> name_uses;
  };
  [[nodiscard]] Said said_by(const std::vector<CompiledPolicy*>& in_force) const;
  [[nodiscard]] bool has_room_for(const AtomSet& blocks_now, const std::vector<CompiledPolicy*>& in_force);
  void choose_atoms();
  void find_block_sets();
  void forget_classes_of_identities();
  [[nodiscard]] std::uint32_t class_of(Identity& identity, std::uint32_t block_set);
  void add_peers(Ruleset& ruleset);
  [[nodiscard]] ClassIndex index_classes(const Ruleset& ruleset) const;
  [[nodiscard]] Tables::NamedPorts named_ports_of_peers(const ClassIndex& index) const;
  [[nodiscard]] bool add_tables(const ClassIndex& index, Ruleset& ruleset);
  [[nodiscard]] bool add_rows(const ClassIndex& index, const Sharers& by_table, const Sharers& by_port_table,
                              Ruleset& ruleset);
  [[nodiscard]] std::shared_ptr<const Ruleset> make_ruleset();
  void sweep(const ClassIndex& index, const Ruleset& ruleset, unsigned kept);

  const Limits limits;
  Atoms atoms{kEveryone + 1};
  Interner<AtomSet> classes;
  Tables tables;
  Identities identities;
  BlockIndex blocks;

  std::vector<KnownPolicy> policies;
  std::vector<KnownPod> pods;
  std::map<std::uint32_t, KnownEndpoint> endpoints;
  std::vector<PeerAddress> addresses;  // of `pods`
  std::set<Identity*> locals;          // of `endpoints`
  AtomSet predicates, ip_blocks;       // in force
  // Of egress rules in force: the peers that each port with a name is said of.
  std::map<PortName, AtomSet> name_uses;
  Refusals refusals;
  std::uint32_t next_serial = 1;
  unsigned compiles = 0;
  std::uint64_t grown = 0;  // by what was compiled since the last sweep: prefixes, words of tables
  std::shared_ptr<const Ruleset> last;
};

}  // namespace sluice::policy
