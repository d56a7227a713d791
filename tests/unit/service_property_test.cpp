// SPDX-License-Identifier: Apache-2.0
// The compiler against a plain specification, on random Services and EndpointSlices and sequences of changes.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>

#include "daemon/service/maglev.h"
#include "tests/unit/random_services.h"

namespace sluice::service {
namespace {

struct Plain {
  std::string service;
  std::set<Backend> internal, external;
  bool internal_elsewhere = false, external_elsewhere = false;
  bool from_outside = false;
  bool masquerade = false;
  std::optional<std::uint32_t> affinity_seconds;
  std::vector<Prefix> source_ranges;
  std::set<Backend> going_on;  // backends whose UDP connections go on
  bool operator==(const Plain&) const = default;
};
using PlainTable = std::map<Frontend, Plain>;

// --- the specification ----------------------------------------------------------------------------------

struct Record {
  Backend backend;
  model::Endpoint endpoint;
};
using Records = std::vector<Record>;

Records records_if(const Records& records, const std::function<bool(const model::Endpoint&)>& wanted) {
  Records result;
  for (const auto& record : records) {
    if (wanted(record.endpoint)) result.push_back(record);
  }
  return result;
}

Records records_of(const Input& input, const model::ServicePort& port, bool v4) {
  Records records;
  for (const auto& slice : input.slices) {
    for (const auto& offered : slice->ports) {
      if (offered.name != port.name || offered.protocol != port.protocol) continue;
      if (!offered.port || *offered.port == 0) continue;
      for (const auto& endpoint : slice->endpoints) {
        if (!endpoint.addresses.empty() && endpoint.addresses[0].is_v4() == v4)
          records.push_back({{endpoint.addresses[0], *offered.port}, endpoint});
      }
    }
  }
  return records;
}

Records in_topology(const Records& ready, const NodeView& node) {
  const auto all = [&](auto hints) {
    return std::ranges::all_of(ready,
                               [&](const Record& record) { return !(record.endpoint.*hints).empty(); });
  };
  const auto for_name = [&](auto hints, const std::string& name) {
    return records_if(ready, [&](const model::Endpoint& endpoint) {
      return !name.empty() && std::ranges::count(endpoint.*hints, name) != 0;
    });
  };
  if (all(&model::Endpoint::hint_nodes)) {
    Records here = for_name(&model::Endpoint::hint_nodes, node.name);
    if (!here.empty()) return here;
  }
  if (all(&model::Endpoint::hint_zones)) {
    Records near = for_name(&model::Endpoint::hint_zones, node.zone);
    if (!near.empty()) return near;
  }
  return ready;
}

std::set<Backend> usable(Records records, bool local, const NodeView& node) {
  if (local) {
    records = records_if(records, [&](const model::Endpoint& endpoint) {
      return !node.name.empty() && endpoint.node_name == node.name;
    });
  }
  Records chosen = records_if(records, [](const model::Endpoint& endpoint) { return endpoint.ready; });
  if (chosen.empty()) {
    chosen = records_if(
        records, [](const model::Endpoint& endpoint) { return endpoint.serving && endpoint.terminating; });
  } else if (!local) {
    chosen = in_topology(chosen, node);
  }
  std::set<Backend> backends;
  for (const auto& record : chosen) backends.insert(record.backend);
  return backends;
}

Plain specify_one(const Input& input, const model::ServicePort& port, bool v4, Origin origin,
                  const NodeView& node) {
  const model::Service& service = *input.service;
  const bool cluster_ip = origin == Origin::kClusterIp;
  const Records records = records_of(input, port, v4);
  Plain plain;
  plain.service = port.name.empty() ? fmt::format("{}/{}", service.ns, service.name)
                                    : fmt::format("{}/{}:{}", service.ns, service.name, port.name);
  plain.internal = usable(records, cluster_ip && service.internal_local, node);
  plain.external = cluster_ip ? plain.internal : usable(records, service.external_local, node);
  const bool anybody = !usable(records, false, node).empty();
  if (port.protocol == model::Protocol::kUdp) {
    plain.going_on = plain.internal;
    plain.going_on.insert(plain.external.begin(), plain.external.end());
    for (const auto& record : records)
      if (record.endpoint.serving) plain.going_on.insert(record.backend);
  }
  plain.internal_elsewhere = anybody && plain.internal.empty();
  plain.external_elsewhere = !cluster_ip && anybody && plain.external.empty();
  plain.from_outside = !cluster_ip;
  plain.masquerade = !cluster_ip && !service.external_local;
  plain.affinity_seconds = service.affinity_seconds;
  if (origin == Origin::kLoadBalancerIp) {
    for (const auto& range : service.source_ranges) {
      if (range.is_v4() == v4) plain.source_ranges.push_back(range);
    }
  }
  return plain;
}

bool is_anothers_cluster_ip(const Inputs& inputs, const std::string& key, const Address& address) {
  return std::ranges::any_of(inputs, [&](const auto& input) {
    return input.first != key && input.second.service &&
           std::ranges::count(input.second.service->cluster_ips, address) > 0;
  });
}

PlainTable specify(const Inputs& inputs, const NodeView& node) {
  PlainTable table;
  // In the order in which frontends are given away: who comes later gets what is left.
  for (const Origin origin :
       {Origin::kClusterIp, Origin::kNodePort, Origin::kLoadBalancerIp, Origin::kExternalIp}) {
    for (const auto& [key, input] : inputs) {
      if (!input.service || input.service->left_alone) continue;
      const model::Service& service = *input.service;
      const auto& addresses = origin == Origin::kClusterIp        ? service.cluster_ips
                              : origin == Origin::kLoadBalancerIp ? service.load_balancer_ips
                              : origin == Origin::kExternalIp     ? service.external_ips
                                                                  : node.addresses;
      for (const auto& address : addresses) {
        const bool v4 = address.is_v4();
        if (std::ranges::none_of(service.cluster_ips, [&](const Address& ip) { return ip.is_v4() == v4; }))
          continue;
        for (const auto& port : service.ports) {
          const std::uint16_t number = origin == Origin::kNodePort ? port.node_port : port.port;
          if (number == 0) continue;
          if (origin == Origin::kExternalIp && std::ranges::count(node.addresses, address) > 0) continue;
          if ((origin == Origin::kExternalIp || origin == Origin::kLoadBalancerIp) &&
              is_anothers_cluster_ip(inputs, key, address))
            continue;
          table.emplace(Frontend{address, port.protocol, number}, specify_one(input, port, v4, origin, node));
        }
      }
    }
  }
  return table;
}

// --- what is compared ------------------------------------------------------------------------------------

std::set<Backend> plain(const Pool& pool) {
  EXPECT_TRUE(std::ranges::is_sorted(pool.backends));
  EXPECT_EQ(pool.slots, maglev_table(pool.backends));
  std::set<Backend> backends(pool.backends.begin(), pool.backends.end());
  EXPECT_EQ(backends.size(), pool.backends.size());
  return backends;
}

std::set<Backend> going_on(const Frontend& frontend, const Target& target) {
  EXPECT_TRUE(std::ranges::is_sorted(target.retained));
  std::set<Backend> backends(target.retained.begin(), target.retained.end());
  EXPECT_EQ(backends.size(), target.retained.size());
  if (frontend.protocol != model::Protocol::kUdp) return backends;
  for (const auto* pool : {target.internal.get(), target.external.get()})
    for (const auto& backend : pool->backends)
      EXPECT_TRUE(backends.insert(backend).second || pool == target.external.get());
  return backends;
}

PlainTable plain(const Table& table) {
  PlainTable result;
  for (const auto& [frontend, target] : table) {
    const Target& t = *target;
    EXPECT_EQ(t.internal == t.external, *t.internal == *t.external) << "equal pools are one object";
    result[frontend] = {
        t.service,      plain(*t.internal), plain(*t.external), t.internal_elsewhere, t.external_elsewhere,
        t.from_outside, t.masquerade,       t.affinity_seconds, t.source_ranges,      going_on(frontend, t)};
  }
  return result;
}

// Where two tables differ, for the message of a test that failed.
std::string difference(const PlainTable& left, const PlainTable& right) {
  std::string words;
  const auto only = [&](const PlainTable& here, const PlainTable& there, const char* side) {
    for (const auto& [frontend, target] : here) {
      const auto other = there.find(frontend);
      if (other == there.end() || !(other->second == target))
        words +=
            fmt::format("\n{}: {} port {} of {}: {} inside, {} outside", side, frontend.address.to_string(),
                        frontend.port, target.service, target.internal.size(), target.external.size());
    }
  };
  only(left, right, "compiled");
  only(right, left, "specified");
  return words;
}

// The generator must not drift to where one of the outcomes never occurs.
struct Tally {
  std::size_t frontends = 0, empty = 0, internal_elsewhere = 0, external_elsewhere = 0, differ = 0,
              restricted = 0, retained = 0, removed = 0, changed = 0, warnings = 0;

  void count(const Table& table) {
    for (const auto& [frontend, target] : table) {
      ++frontends;
      empty += target->internal->backends.empty() && !target->internal_elsewhere;
      internal_elsewhere += target->internal_elsewhere;
      external_elsewhere += target->external_elsewhere;
      differ += target->internal != target->external;
      restricted += !target->source_ranges.empty();
      retained += !target->retained.empty();
    }
  }
};

TEST(ServiceProperty, TheTableIsAsSpecifiedThroughSequencesOfChanges) {
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    RandomServices random(seed);
    Compiler compiler;
    compiler.set_node(random.node());
    for (const auto& [key, input] : random.inputs()) compiler.update(key, input);
    Table followed;  // by the changes alone
    for (int step = 0; step < 60; ++step) {
      SCOPED_TRACE(fmt::format("step {}", step));
      const auto expected = specify(random.inputs(), random.node());
      const auto compiled = plain(compiler.table());
      ASSERT_TRUE(compiled == expected) << difference(compiled, expected);
      tally.count(compiler.table());

      if (random.below(3) != 0) {
        const Changes changes = compiler.take_changes();
        for (const auto& [frontend, target] : changes.set) {
          const auto before = followed.find(frontend);
          ASSERT_TRUE(before == followed.end() || !(*before->second == *target)) << "set to what it was";
          followed[frontend] = target;
        }
        for (const auto& frontend : changes.removed) ASSERT_EQ(followed.erase(frontend), 1U);
        ASSERT_TRUE(plain(followed) == compiled) << difference(plain(followed), compiled);
        tally.changed += changes.set.size();
        tally.removed += changes.removed.size();
        tally.warnings += changes.warnings.size();
      }

      const std::string key = random.change_one();
      if (key.empty()) {
        compiler.set_node(random.node());
      } else {
        compiler.update(key, random.inputs().at(key));
      }
    }
    if (HasFailure()) return;
  }
  RecordProperty("frontends", static_cast<int>(tally.frontends));
  EXPECT_GE(tally.frontends, 100000U);
  for (const std::size_t outcome :
       {tally.empty, tally.internal_elsewhere, tally.external_elsewhere, tally.differ, tally.restricted,
        tally.retained, tally.removed, tally.changed, tally.warnings})
    EXPECT_GE(outcome, 500U);
}

TEST(ServiceProperty, TheTableDoesNotDependOnTheOrderOfArrival) {
  std::mt19937_64 order(11);
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    RandomServices random(seed);
    for (int i = 0; i < 30; ++i) random.change_one();
    std::vector<Inputs::value_type> inputs(random.inputs().begin(), random.inputs().end());
    const auto expected = specify(random.inputs(), random.node());
    for (int i = 0; i < 5; ++i) {
      Compiler compiler;
      const bool node_last = random.below(2) != 0;
      if (!node_last) compiler.set_node(random.node());
      std::vector<std::size_t> sequence(inputs.size());
      for (std::size_t j = 0; j < sequence.size(); ++j) sequence[j] = j;
      std::ranges::shuffle(sequence, order);
      for (const std::size_t j : sequence) {
        auto input = inputs[j].second;
        std::ranges::shuffle(input.slices, order);
        compiler.update(inputs[j].first, input);
      }
      if (node_last) compiler.set_node(random.node());
      ASSERT_TRUE(plain(compiler.table()) == expected) << difference(plain(compiler.table()), expected);
    }
  }
}

}  // namespace
}  // namespace sluice::service
