// SPDX-License-Identifier: Apache-2.0
// What one event costs in a large cluster, with the daemon's own libraries: from the object to rules in
// force.
//   sluice_bench_scale BPFFS PODS POLICIES [ROUNDS]
// A hundred of the pods are on this node. Prints a line of JSON for each kind of event.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <span>

#include "daemon/controller/check_packets.h"
#include "daemon/controller/cluster_state.h"
#include "daemon/datapath/datapath.h"
#include "daemon/policy/compiler.h"

namespace sluice::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kNamespaces = 1000;
constexpr unsigned kAppsPerNamespace = 10;
constexpr unsigned kLocalPods = 100;

double ms(Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

double resident_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmRSS:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  return 0;
}

std::string ns_of(unsigned number) { return fmt::format("team-{}-space-{}", number % 50, number); }
std::string app_of(unsigned number) { return fmt::format("service-{}", number % kAppsPerNamespace); }

model::LabelSelector labels(const std::string& key, const std::string& value) {
  model::LabelSelector selector;
  selector.match_labels = {{key, value}};
  return selector;
}

// Pods go round the namespaces, and within one round its Deployments; every tenth is a StatefulSet, each of
// whose pods has a label of its own.
model::Pod pod(unsigned number, unsigned state = 0) {
  const unsigned ns = number % kNamespaces, app = number / kNamespaces % kAppsPerNamespace;
  model::Pod made;
  made.ns = ns_of(ns);
  made.name = fmt::format("{}-{:08x}-{:05x}", app_of(app), ns * 7919 + app, number);
  made.uid = fmt::format("{:08x}-0000-4000-8000-{:012x}", number * 2654435761U, number);
  made.node_name = fmt::format("node-{}", number % 1000);
  made.labels = {{"app.kubernetes.io/name", app_of(app)},
                 {"app.kubernetes.io/instance", fmt::format("{}-{}", made.ns, app_of(app))},
                 {"pod-template-hash", fmt::format("{:08x}", ns * 7919 + app)},
                 {"version", state == 0 ? "v1" : fmt::format("v{}", state % 2 + 1)}};
  if (app == 9) made.labels.set("statefulset.kubernetes.io/pod-name", made.name);
  made.ips = {Address::from_v4(0x0a800002U + number)};
  made.ports = {{"http", model::Protocol::kTcp, 8080}, {"metrics", model::Protocol::kTcp, 9090}};
  made.created = 1'700'000'000 + number;
  return made;
}

// Ten kinds, as a namespace of a large cluster has them.
model::NetworkPolicy policy_of(unsigned number, unsigned state = 0) {
  const unsigned kind = number / kNamespaces;
  model::NetworkPolicy made;
  made.ns = ns_of(number % kNamespaces);
  made.name = fmt::format("policy-{}", kind);
  made.isolates_ingress = true;
  const auto port = [&](std::uint16_t first) {
    return model::PolicyPort{
        model::Protocol::kTcp, static_cast<std::uint16_t>(first + number % 50 + state % 1000), {}};
  };
  model::PolicyPeer peer;
  switch (kind % 10) {
    case 0:  // default deny
      break;
    case 1:  // a namespace's own pods
      peer.pod_selector = model::LabelSelector();
      made.ingress = {{{peer}, {}}};
      break;
    case 2:  // a team's namespaces
      peer.namespace_selector = labels("team", fmt::format("team-{}", number % 50));
      made.ingress = {{{peer}, {port(8000)}}};
      break;
    case 3: {  // DNS and the world
      made.isolates_ingress = false;
      made.isolates_egress = true;
      model::PolicyPeer world;
      world.ip_block = {*Prefix::parse("0.0.0.0/0"), {*Prefix::parse("10.0.0.0/8")}};
      peer.namespace_selector = labels("kubernetes.io/metadata.name", ns_of(0));
      made.egress = {{{peer}, {{model::Protocol::kUdp, std::uint16_t{53}, {}}}}, {{world}, {port(443)}}};
      break;
    }
    default:
      made.pod_selector = labels("app.kubernetes.io/name", app_of(kind));
      peer.pod_selector = labels("app.kubernetes.io/name", app_of(kind + 1));
      peer.namespace_selector = labels("team", fmt::format("team-{}", number % 50));
      made.ingress = {{{peer}, {port(9000)}}};
  }
  return made;
}

model::Namespace space(unsigned number, unsigned state = 0) {
  model::Namespace made{ns_of(number), {}};
  made.labels = {{"kubernetes.io/metadata.name", made.name},
                 {"team", fmt::format("team-{}", (number + state) % 50)}};
  return made;
}

class Bench {
 public:
  static Result<std::unique_ptr<Bench>> make(const std::string& bpffs, unsigned pods, unsigned policies) {
    datapath::Options options;
    options.bpffs = bpffs;
    auto datapath = datapath::Datapath::open(options);
    if (!datapath) return tl::unexpected(datapath.error());
    datapath::NodeConfig config;
    config.pod_cidrs = {*Prefix::parse("10.244.0.0/16")};
    if (auto done = (*datapath)->configure(config); !done) return tl::unexpected(done.error());
    return std::unique_ptr<Bench>(new Bench(std::move(*datapath), pods, policies));
  }

  Result<void> run(unsigned rounds) {
    note("empty");
    source::FullState all;
    for (unsigned i = 0; i < kNamespaces; ++i) all[model::Kind::kNamespace].push_back(space(i));
    for (unsigned i = 0; i < pods_; ++i) all[model::Kind::kPod].push_back(pod(i));
    for (unsigned i = 0; i < policies_; ++i) all[model::Kind::kNetworkPolicy].push_back(policy_of(i));
    all[model::Kind::kNode];
    state_.apply(std::move(all));
    for (unsigned i = 0; i < kLocalPods; ++i) attach(i);
    note("objects known");
    if (auto done = event("start", 1, [](unsigned) {}); !done) return done;
    note("rules in force");
    const auto far = [&](unsigned round) { return (round * 7919 + 500) % pods_; };
    return event("pod elsewhere: labels", rounds,
                 [&](unsigned i) { state_.apply(model::Object(pod(far(i), i + 1))); })
        .and_then([&] {
          return event("pod elsewhere: new", rounds,
                       [&](unsigned i) { state_.apply(model::Object(pod(pods_ + i))); });
        })
        .and_then([&] {
          return event("pod elsewhere: gone", rounds,
                       [&](unsigned i) { state_.apply(model::key_of(pod(pods_ + i))); });
        })
        .and_then([&] { return event("pod here: ADD", rounds, [&](unsigned i) { attach(kLocalPods + i); }); })
        .and_then([&] {
          return event("pod here: DEL", rounds, [&](unsigned i) { state_.detach(kLocalPods + i + 1); });
        })
        .and_then([&] {
          return event("policy of no pod here", rounds, [&](unsigned i) {
            state_.apply(model::Object(policy_of((i * 31 + 5 * kNamespaces + 999) % policies_, i + 1)));
          });
        })
        .and_then([&] {
          return event("policy of pods here", rounds, [&](unsigned i) {
            state_.apply(
                model::Object(policy_of(local(i % kLocalPods) % kNamespaces + 2 * kNamespaces, i + 1)));
          });
        })
        .and_then([&] {
          return event("namespace: labels", rounds,
                       [&](unsigned i) { state_.apply(model::Object(space(i * 37 % kNamespaces, i + 1))); });
        })
        .map([&] { note("end"); });
  }

 private:
  Bench(std::unique_ptr<datapath::Datapath> datapath, unsigned pods, unsigned policies)
      : datapath_(std::move(datapath)), pods_(pods), policies_(policies) {}

  // The pods of this node: of each tenth namespace in turn.
  [[nodiscard]] unsigned local(unsigned i) const { return i * 10007 % pods_; }
  void attach(unsigned i) {
    const auto own = pod(local(i));
    state_.attach(i + 1, {own.ns, own.name, own.uid, own.ips.front(), nullptr});
  }

  static void note(const char* when) {
    std::cout << nlohmann::json{{"when", when}, {"resident_mb", resident_mb()}}.dump() << std::endl;
  }

  Result<void> event(const char* what, unsigned rounds, const std::function<void(unsigned)>& happen) {
    std::map<std::string, std::vector<double>> times;
    unsigned generations = 0;
    for (unsigned round = 0; round < rounds; ++round) {
      const auto begin = Clock::now();
      happen(round);
      static_cast<void>(state_.take_changes());
      const auto known = Clock::now();
      const auto ruleset = compiler_.compile(state_.cluster(), state_.take_policy_changes());
      const auto compiled = Clock::now();
      auto applied = datapath_->apply(ruleset, what, [&] {
        const auto before = Clock::now();
        auto packets = controller::check_packets(
            state_.cluster(), [this](const Address& address) { return state_.peer_at(address); },
            ruleset->refused, seed_++);
        times["packets"].push_back(ms(Clock::now() - before));
        return packets;
      });
      const auto end = Clock::now();
      if (!applied) return tl::unexpected(applied.error());
      generations += applied->generation ? 1 : 0;
      times["state"].push_back(ms(known - begin));
      times["compile"].push_back(ms(compiled - known));
      times["apply"].push_back(ms(end - compiled));
      times["total"].push_back(ms(end - begin));
      datapath_->collect();
    }
    nlohmann::json answer{{"event", what}, {"generations", generations}};
    for (auto& [stage, all] : times) {
      std::ranges::sort(all);
      answer[stage] =
          fmt::format("p50 {:.2f} p99 {:.2f} ms", all[all.size() / 2], all[all.size() * 99 / 100]);
    }
    std::cout << answer.dump() << std::endl;
    return {};
  }

  std::unique_ptr<datapath::Datapath> datapath_;
  unsigned pods_, policies_;
  controller::ClusterState state_;
  policy::Compiler compiler_;
  std::uint32_t seed_ = 0;
};

Result<void> run(std::span<char*> arguments) {
  if (arguments.size() < 3 || arguments.size() > 4)
    return failure("usage: sluice_bench_scale BPFFS PODS POLICIES [ROUNDS]");
  const auto number = [&](std::size_t i) { return static_cast<unsigned>(std::atoi(arguments[i])); };
  auto bench = Bench::make(arguments[0], number(1), number(2));
  if (!bench) return tl::unexpected(bench.error());
  return (*bench)->run(arguments.size() > 3 ? number(3) : 20);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::warn);  // standard output is for the figures
  const auto done = sluice::bench::run({argv + 1, argv + argc});
  if (done) return 0;
  fmt::print(stderr, "sluice_bench_scale: {}\n", done.error().message);
  return 1;
}
