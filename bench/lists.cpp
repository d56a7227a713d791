// SPDX-License-Identifier: Apache-2.0
// What changes cost the compiler beside four policies with a list of 29,000 addresses each.
//   sluice_bench_lists [ROUNDS]
// Needs no privileges. Prints a line of JSON for each kind of change: milliseconds of this thread's processor
// time.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "daemon/policy/compiler.h"

namespace sluice::bench {

namespace {

constexpr unsigned kTenants = 5;
constexpr std::uint32_t kAddresses = 29'000;

double now_ms() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

std::string ns_of(unsigned tenant) { return fmt::format("tenant{}", tenant); }

// A list of addresses at one port, of which each state has one other.
model::NetworkPolicy with_list(unsigned tenant, std::uint32_t addresses, unsigned state,
                               std::uint32_t first = 0xcb000000) {
  model::NetworkPolicy made;
  made.ns = ns_of(tenant);
  made.name = "list";
  made.isolates_egress = true;
  model::PolicyRule rule{{}, {{model::Protocol::kTcp, std::uint16_t{443}, {}}}};
  const auto add = [&](std::uint32_t address) {
    model::PolicyPeer peer;
    peer.ip_block = {Prefix::host(Address::from_v4(address)), {}};
    rule.peers.push_back(std::move(peer));
  };
  for (std::uint32_t i = 1; i < addresses; ++i) add(first + 3 * i);
  add(0x64000000 + 100 * tenant + state % 100);
  made.egress = {std::move(rule)};
  return made;
}

class Bench {
 public:
  Bench() {
    for (unsigned tenant = 0; tenant < kTenants; ++tenant) add_endpoint(tenant, 0);
    for (unsigned tenant = 0; tenant < kTenants - 1; ++tenant) set(with_list(tenant, kAddresses, 0));
    static_cast<void>(compile());
  }

  void run(unsigned rounds) {
    const std::string last = ns_of(kTenants - 1) + "/list";
    event(
        "another list, beside four", rounds, [&](unsigned i) { set(with_list(kTenants - 1, kAddresses, i)); },
        [&] { remove(last); });
    event("a list changes in one address", rounds, [&](unsigned i) { set(with_list(0, kAddresses, i + 1)); });
    event(
        "a list goes", rounds, [&](unsigned) { remove(ns_of(0) + "/list"); },
        [&] { set(with_list(0, kAddresses, 0)); });
    event(
        "refused: too large by itself", rounds, [&](unsigned i) { set(with_list(kTenants - 1, 40'000, i)); },
        [&] { remove(last); });
    event(
        "refused: too large beside the others", rounds,
        [&](unsigned i) { set(with_list(kTenants - 1, kAddresses, i, 0xc0000000)); }, [&] { remove(last); });
    event("another tenant's deny", rounds, [&](unsigned i) {
      model::NetworkPolicy deny;
      deny.ns = ns_of(kTenants - 1);
      deny.name = fmt::format("deny{}", i);
      deny.isolates_ingress = true;
      set(std::move(deny));
    });
    event("another tenant's short list", rounds, [&](unsigned i) { set(with_list(kTenants - 1, 20, i)); });
    event("another endpoint", rounds, [&](unsigned i) { add_endpoint(i % kTenants, i + 1); });
  }

 private:
  void set(model::NetworkPolicy policy) {
    const auto key = policy.ns + "/" + policy.name;
    changes_.policies.insert(key);
    cluster_.policies[key] = std::make_shared<const model::NetworkPolicy>(std::move(policy));
  }
  void remove(const std::string& key) {
    changes_.policies.insert(key);
    cluster_.policies.erase(key);
  }
  void add_endpoint(unsigned tenant, unsigned number) {
    model::Pod pod;
    pod.ns = ns_of(tenant);
    pod.name = fmt::format("pod{}", number);
    pod.ips = {Address::from_v4(0x0a000000 + 1000 * tenant + number)};
    const auto id = static_cast<std::uint32_t>(cluster_.endpoints.size() + 1);
    cluster_.endpoints[id] = {id, pod.ns, pod.name};
    changes_.endpoints.insert(id);
    const auto key = pod.ns + "/" + pod.name;
    changes_.pods.insert(key);
    cluster_.pods[key] = std::make_shared<const model::Pod>(std::move(pod));
  }
  // The ruleset before is let go in the time of the next one, as in the daemon.
  double compile() {
    const auto changes = std::exchange(changes_, {});
    const double begin = now_ms();
    ruleset_ = compiler_.compile(cluster_, changes);
    return now_ms() - begin;
  }
  void event(const char* what, unsigned rounds, const std::function<void(unsigned)>& happen,
             const std::function<void()>& undo = {}) {
    std::vector<double> times;
    std::size_t refused = 0;
    for (unsigned round = 0; round < rounds; ++round) {
      happen(round);
      times.push_back(compile());
      refused = ruleset_->refused.size();
      if (!undo) continue;
      undo();
      static_cast<void>(compile());
    }
    std::ranges::sort(times);
    std::cout << nlohmann::json{{"event", what},
                                {"ms", fmt::format("p50 {:.2f} p99 {:.2f}", times[times.size() / 2],
                                                   times[times.size() * 99 / 100])},
                                {"refused", refused}}
                     .dump()
              << std::endl;
  }

  policy::Cluster cluster_;
  policy::Changes changes_;
  policy::Compiler compiler_;
  std::shared_ptr<const policy::Ruleset> ruleset_;
};

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Bench().run(argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 20);
  return 0;
}
