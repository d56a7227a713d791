// SPDX-License-Identifier: Apache-2.0
// What the modules cost a packet, in nanoseconds of BPF_PROG_TEST_RUN, in the world of the bpf tests:
//   chain_established_ns   entry, nat, bridge, deliver: a packet of a known connection between two pods
//   chain_new_ns           with firewall and nat_commit: each repetition another connection
//   verdict_10k_x          the firewall's answer from one peer, 10,000 rules and peers against 10
//   verdict_10k_varied_x   the same, each repetition another of the peers
//   service_packet_10k_x   a packet of a known connection to a Service, 10,000 Services with 10 endpoints
//                          each against 10 of them
//   service_new_10k_x      each repetition another connection to one Service
//   service_new_10k_varied_x   the same, each to another of the Services
// Both pods are isolated both ways by rules that name ports. Beside each figure stands the same run without
// the modules, or the answer with 10 rules.
//   sluice_bench_chain [--json] [--quick]
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "front.skel.h"
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

struct Options {
  bool json = false;
  int rounds = 41;
} options;

constexpr int kRepeat = 20'000;
constexpr int kNewRepeat = 4000;  // less than half of the world's conntrack, which is a pod's share
constexpr std::uint32_t kTableA = 1, kTableB = 2, kFirstSource = 0x0a020000;
constexpr std::uint16_t kPorts[] = {80, 443, 53, 8080};

struct Figure {
  std::vector<double> samples;
  std::vector<double> baseline;
};
using Figures = std::map<std::string, Figure>;

struct Turn {  // as in front.bpf.c
  std::uint32_t count;
  std::uint32_t sources;
  std::uint32_t services;
  std::array<std::uint8_t, 12> ethernet;
};
enum FrontSlot : std::uint32_t { kFrontEntry = 0, kFrontProbe = 1, kFrontNothing = 2 };

constexpr std::uint32_t kBackends = 10, kSlots = 11, kFirstService = 0x0a600001;  // 10.96.0.1
constexpr std::uint16_t kBackendPort = 443;

std::string dotted(std::uint32_t v4) {
  return fmt::format("{}.{}.{}.{}", v4 >> 24, v4 >> 16 & 255, v4 >> 8 & 255, v4 & 255);
}

// A world in which podB admits `sources` addresses, each by a row of its own, and serves so many Services.
class Side : public World {
 public:
  Side(std::uint32_t sources, std::uint32_t services);
  ~Side() override { TearDown(); }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;
  Side(Side&&) = delete;
  Side& operator=(Side&&) = delete;
  void TestBody() override {}

  double established(bool modules) { return ns(modules ? "entry_pod" : "nothing", frame("A"), kRepeat); }
  double fresh(bool modules);
  double verdict(bool varied);
  double service_packet() { return ns("service_packets", to_service("A"), kRepeat); }
  double service_fresh(bool varied);

 private:
  static Bytes frame(const std::string& flags) {
    return build({.to = "podB",
                  .src = "10.1.0.2",
                  .dst = "10.1.0.3",
                  .proto = IPPROTO_TCP,
                  .sport = 4000,
                  .dport = 80,
                  .flags = flags});
  }
  static Bytes to_service(const std::string& flags) {
    return build({.src = "10.1.0.2",
                  .dst = dotted(kFirstService),
                  .proto = IPPROTO_TCP,
                  .sport = 4000,
                  .dport = 80,
                  .flags = flags});
  }
  void serve(std::uint32_t services);
  static Bytes question(sluice_module judge);
  static sluice_policy policy(std::uint32_t table, std::uint32_t peer_class);
  double ns(const char* name, const Bytes& data, int times) { return mean_ns(name, data, times); }
  void admit(std::uint32_t table, std::uint32_t peer_class, unsigned port_class) {
    set_row(table, peer_class, {1, port_class});
  }

  std::uint32_t sources_;
};

Side::Side(std::uint32_t sources, std::uint32_t services) : sources_(sources) {
  SetUp();
  load(front_bpf__elf_bytes);
  put("front", std::uint32_t{kFrontEntry}, program("entry_pod"));
  put("front", std::uint32_t{kFrontProbe}, program("probe"));
  put("front", std::uint32_t{kFrontNothing}, program("nothing"));
  set_slot(SLUICE_MODULE_CANDIDATE, program("nothing"));
  Turn turn{0, sources, services, {}};
  std::ranges::copy_n(to_service("S").begin(), turn.ethernet.size(), turn.ethernet.begin());
  put("turn", std::uint32_t{0}, turn);

  go_live(load_generation({.uses_blocks = false, .uses_port_tables = false, .uses_default_rows = false}), {});
  set_policy(kPodA, policy(kTableA, 1));
  set_policy(kPodB, policy(kTableB, 2));
  set_class("10.1.0.2", 1);
  set_class("10.1.0.3", 2);
  admit(kTableA, 2, 2);
  admit(kTableB, 1, 2);
  for (std::uint32_t i = 0; i < sources; ++i) {
    const std::uint32_t v4 = kFirstSource + i;
    set_class(dotted(v4), i + 3);
    admit(kTableB, i + 3, 1 + i % 4);
  }
  if (send(SLUICE_HOOK_POD, frame("S")).outcome != "delivered") throw std::runtime_error("not delivered");
  serve(services);
  for (const auto* flags : {"S", "A"})
    if (const auto seen = send(SLUICE_HOOK_POD, to_service(flags)); seen.outcome != "delivered")
      throw std::runtime_error("to a Service: " + seen.outcome);
}

// Every Service has backends and slots of its own, as far as memory is concerned; all of them are podB.
void Side::serve(std::uint32_t services) {
  for (std::uint32_t i = 0; i < services; ++i) {
    for (std::uint32_t b = 0; b < kBackends; ++b) {
      sluice_backend backend{};
      backend.addr = address("10.1.0.3");
      backend.port_be = htons(kBackendPort);
      put("backends", i * kBackends + b + 1, backend);
    }
    for (std::uint32_t slot = 0; slot < kSlots; ++slot)
      put("service_slots", i * kSlots + slot, i * kBackends + slot % kBackends + 1);
    sluice_service_key key{};
    key.addr = address(dotted(kFirstService + i));
    key.port_be = htons(80);
    key.proto = IPPROTO_TCP;
    key.scope = SLUICE_SCOPE_INSIDE;
    sluice_service service{};
    service.first = i * kSlots;
    service.count = kSlots;
    service.seal = sluice_service_seal(&key, &service);
    put("services", key, service);
  }
}

double Side::service_fresh(bool varied) {
  const double taken =
      ns(varied ? "other_service_connections" : "new_service_connections", to_service("S"), kNewRepeat / 2);
  forget_connections();
  send(SLUICE_HOOK_POD, frame("S"));
  send(SLUICE_HOOK_POD, to_service("S"));
  return taken;
}

// As the compiler makes it of rules that name kPorts.
sluice_policy Side::policy(std::uint32_t table, std::uint32_t peer_class) {
  sluice_policy made{};
  made.flags = SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS | SLUICE_POLICY_ISOLATED_EGRESS;
  made.own = {peer_class, ~peer_class};
  for (const auto direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
    made.table[direction] = table;
    for (std::uint16_t i = 0; i < std::size(kPorts); ++i)
      made.port_runs[direction][i] = {std::uint32_t{IPPROTO_TCP} << 16 | kPorts[i], 0,
                                      static_cast<std::uint16_t>(i + 1)};
  }
  return made;
}

double Side::fresh(bool modules) {
  const Bytes first = frame("S");
  const double taken = ns(modules ? "new_connections" : "new_connections_only", first, kNewRepeat);
  if (modules) {
    forget_connections();
    send(SLUICE_HOOK_POD, first);
  }
  return taken;
}

Bytes Side::question(sluice_module judge) {
  sluice_probe asked{};
  asked.src = address("10.2.0.0");
  asked.dst = address("10.1.0.3");
  asked.sport_be = htons(4000);
  asked.dport_be = htons(80);
  asked.proto = IPPROTO_TCP;
  asked.dst_endpoint = kPodB;
  asked.module = judge;
  Bytes data(14 + sizeof asked);
  std::memcpy(&data[14], &asked, sizeof asked);
  return data;
}

// Less what the question costs without an answer: its slot holds a program that only returns.
double Side::verdict(bool varied) {
  const char* way = varied ? "other_peers" : "probe";
  return ns(way, question(SLUICE_MODULE_FIREWALL), kRepeat) -
         ns(way, question(SLUICE_MODULE_CANDIDATE), kRepeat);
}

Figures measure() {
  Side large(10'000, 10'000), small(10, 10);
  Figures figures;
  const auto add = [&](const char* name, double sample, double baseline) {
    figures[name].samples.push_back(sample);
    figures[name].baseline.push_back(baseline);
  };
  for (int round = 0; round < options.rounds; ++round) {
    const double nothing = small.established(false);
    add("chain_established_ns", small.established(true), nothing);
    const double renumbered = small.fresh(false);
    add("chain_new_ns", small.fresh(true), renumbered);
    double few = small.verdict(false);
    add("verdict_10k_x", large.verdict(false) / few, few);
    few = small.verdict(true);
    add("verdict_10k_varied_x", large.verdict(true) / few, few);
    few = small.service_packet();
    add("service_packet_10k_x", large.service_packet() / few, few);
    few = small.service_fresh(false);
    add("service_new_10k_x", large.service_fresh(false) / few, few);
    few = small.service_fresh(true);
    add("service_new_10k_varied_x", large.service_fresh(true) / few, few);
  }
  return figures;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void print(const Figures& figures) {
  nlohmann::json all;
  for (const auto& [name, figure] : figures) {
    const auto [min, max] = std::ranges::minmax(figure.samples);
    std::vector<double> net;
    for (std::size_t i = 0; i < figure.samples.size(); ++i)
      net.push_back(figure.samples[i] - figure.baseline[i]);
    const double value = median(figure.samples), baseline = median(figure.baseline);
    all[name] = {{"value", value},
                 {"min", min},
                 {"max", max},
                 {"median", value},
                 {"baseline", figure.baseline},
                 {"samples", figure.samples}};
    if (name.ends_with("_ns")) all[name]["less_baseline"] = median(net);
    if (options.json) continue;
    fmt::print("{:22}{:8.2f}  min {:.2f} max {:.2f}  beside {:.1f}", name, value, min, max, baseline);
    fmt::print("{}\n", name.ends_with("_ns") ? fmt::format(" ns, without it {:.0f}", median(net)) : " ns");
  }
  if (options.json) fmt::print("{}\n", all.dump());
}

TEST(Chain, Figures) { print(measure()); }

}  // namespace
}  // namespace sluice::bpftest

// A test to GoogleTest, whose environment holds the world's namespaces; its own output stays away.
int main(int argc, char** argv) {
  using sluice::bpftest::options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--quick") {
      options.rounds = 9;
    } else {
      fmt::print(stderr, "usage: sluice_bench_chain [--json] [--quick]\n");
      return 2;
    }
  }
  ::testing::GTEST_FLAG(color) = "no";
  int none = 1;
  ::testing::InitGoogleTest(&none, argv);
  if (!options.json) return RUN_ALL_TESTS();
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  return RUN_ALL_TESTS();
}
