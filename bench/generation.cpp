// SPDX-License-Identifier: Apache-2.0
// A policy changes: from the cluster's new state to the live generation, with the daemon's own libraries.
//   sluice_bench_generation BPFFS ENDPOINTS POLICIES PODS
// Every line on standard input changes one policy; the answer is a line of JSON. All policies are in force.
#include <bpf/bpf.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>

#include <array>
#include <chrono>
#include <cstdarg>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>

#include "common/fd.h"
#include "daemon/controller/check_packets.h"
#include "daemon/datapath/datapath.h"
#include "daemon/policy/compiler.h"

namespace {

using Clock = std::chrono::steady_clock;
std::array<Clock::duration, 64> in_command{};  // by bpf_cmd
unsigned bpf_calls = 0;

}  // namespace

// libbpf calls the kernel through this function of libc; the executable's own is found before it.
extern "C" long syscall(long number, ...) {
  static const auto original = reinterpret_cast<long (*)(long, ...)>(dlsym(RTLD_NEXT, "syscall"));
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  const auto begin = Clock::now();
  const long result = original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (number == __NR_bpf) {
    in_command[static_cast<std::size_t>(a[0]) % in_command.size()] += Clock::now() - begin;
    ++bpf_calls;
  }
  return result;
}

namespace sluice::bench {

namespace {

constexpr unsigned kNamespaces = 20;

double ms(Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

Clock::duration in_kernel() {
  return std::accumulate(in_command.begin(), in_command.end(), Clock::duration());
}

struct Size {
  unsigned endpoints = 0, policies = 0, pods = 0;
};

// Pods of `endpoints` kinds, spread over the namespaces; the first of each kind is on this node. The policies
// go round the kinds: each kind has as many.
class Cluster {
 public:
  explicit Cluster(const Size& size) : size_(size) {
    for (unsigned i = 0; i < kNamespaces; ++i) {
      const auto name = fmt::format("ns{}", i);
      state_.namespaces[name] = {
          name, {{"kubernetes.io/metadata.name", name}, {"team", fmt::format("t{}", i % 4)}}};
    }
    for (unsigned i = 0; i < size.pods; ++i) add_pod(i);
    for (unsigned i = 0; i < size.policies; ++i) put_policy(i, 0);
  }
  [[nodiscard]] const policy::Cluster& state() const { return state_; }

  void change() {
    ++changes_;
    put_policy(changes_ * 37 % size_.policies, changes_);
  }
  [[nodiscard]] const model::Pod* pod_at(const Address& address) const {
    const auto found = by_address_.find(address);
    return found == by_address_.end() ? nullptr : found->second;
  }
  // Since the last call.
  [[nodiscard]] policy::Changes take_changes() { return std::exchange(policy_changes_, {}); }

 private:
  [[nodiscard]] std::string ns_of(unsigned kind) const { return fmt::format("ns{}", kind % kNamespaces); }
  [[nodiscard]] std::string app_of(unsigned kind) const { return fmt::format("app{}", kind / kNamespaces); }

  void add_pod(unsigned i) {
    const unsigned kind = i % size_.endpoints;
    model::Pod pod;
    pod.ns = ns_of(kind);
    pod.name = fmt::format("pod{}", i);
    pod.labels = {{"app", app_of(kind)}, {"pod-template-hash", fmt::format("{:x}", kind * 7919)}};
    pod.ips = {Address::from_v4(0x0af40002 + i)};
    pod.ports = {{"http", model::Protocol::kTcp, 8080}};
    if (i < size_.endpoints) state_.endpoints[i + 1] = {i + 1, pod.ns, pod.name};
    const auto key = pod.ns + "/" + pod.name;
    const auto& added = state_.pods[key] = std::make_shared<const model::Pod>(std::move(pod));
    by_address_[added->ips.front()] = added.get();
  }

  static model::LabelSelector labels(const std::string& key, const std::string& value) {
    model::LabelSelector selector;
    selector.match_labels = {{key, value}};
    return selector;
  }

  // Another `state` of the policy has another port.
  void put_policy(unsigned i, unsigned state) {
    const unsigned kind = i % size_.endpoints;
    model::NetworkPolicy made;
    made.ns = ns_of(kind);
    made.name = fmt::format("policy{}", i);
    made.pod_selector = labels("app", app_of(kind));
    made.isolates_ingress = true;
    made.isolates_egress = i % 2 == 0;
    model::PolicyPeer same_namespace, other_team, outside;
    same_namespace.pod_selector = labels("app", app_of(kind + (i + 1) * kNamespaces));
    other_team.namespace_selector = labels("team", fmt::format("t{}", i % 4));
    other_team.pod_selector = labels("app", app_of(i * kNamespaces));
    outside.ip_block = {must(fmt::format("192.{}.{}.0/24", i % 4, i % 100)), {}};
    const auto port = static_cast<std::uint16_t>(1000 + i % 200 + state % 50000);
    made.ingress = {{{same_namespace, other_team}, {{model::Protocol::kTcp, port, {}}}},
                    {{outside}, {{model::Protocol::kTcp, std::uint16_t{443}, {}}}}};
    if (made.isolates_egress)
      made.egress = {{{other_team}, {{model::Protocol::kUdp, std::uint16_t{53}, {}}}}};
    const auto key = made.ns + "/" + made.name;
    policy_changes_.policies.insert(key);
    state_.policies[key] = std::make_shared<const model::NetworkPolicy>(std::move(made));
  }

  static Prefix must(const std::string& text) { return *Prefix::parse(text); }

  Size size_;
  unsigned changes_ = 0;
  policy::Cluster state_;
  policy::Changes policy_changes_;
  std::map<Address, const model::Pod*> by_address_;
};

// The least that any swap of a program costs: the smallest one, loaded, and one write of a slot.
Result<double> least_swap_ms() {
  const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  static const Fd slots(bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "slots", 4, 4, 1, nullptr));
  const auto before = in_kernel();
  const Fd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "least", "GPL", code, std::size(code), nullptr));
  const std::uint32_t index = 0;
  const int fd = program.get();
  if (!slots || !program || bpf_map_update_elem(slots.get(), &index, &fd, 0) != 0)
    return failure_errno(errno, "load and swap the smallest program");
  return ms(in_kernel() - before);
}

class Bench {
 public:
  static Result<std::unique_ptr<Bench>> make(const std::string& bpffs, const Size& size) {
    datapath::Options options;
    options.bpffs = bpffs;
    auto datapath = datapath::Datapath::open(options);
    if (!datapath) return tl::unexpected(datapath.error());
    datapath::NodeConfig config;
    config.pod_cidrs = {*Prefix::parse("10.244.0.0/16")};
    if (auto done = (*datapath)->configure(config); !done) return tl::unexpected(done.error());
    std::unique_ptr<Bench> made(new Bench(std::move(*datapath), size));
    if (auto first = made->round(); !first) return tl::unexpected(first.error());
    return made;
  }

  Result<nlohmann::json> round() {
    datapath_->collect();  // as the daemon does every few seconds: the last change was longer ago
    cluster_.change();
    in_command = {};
    const auto calls = bpf_calls;
    const auto begin = Clock::now();
    const auto ruleset = compiler_.compile(cluster_.state(), cluster_.take_changes());
    const auto compiled = Clock::now();
    auto applied = datapath_->apply(ruleset, "bench", [&] {
      return controller::check_packets(
          cluster_.state(), [&](const Address& address) { return cluster_.pod_at(address); },
          ruleset->refused, seed_++);
    });
    const auto end = Clock::now();
    if (!applied) return tl::unexpected(applied.error());
    if (!applied->generation) return failure("the change made no generation");
    nlohmann::json answer{
        {"total_ms", ms(end - begin)},
        {"kernel_ms", ms(in_kernel())},
        {"kernel_load_ms", ms(in_command[BPF_PROG_LOAD])},
        {"kernel_run_ms", ms(in_command[BPF_PROG_TEST_RUN])},
        {"kernel_open_ms", ms(in_command[BPF_OBJ_GET] + in_command[BPF_OBJ_GET_INFO_BY_FD])},
        {"bpf_calls", bpf_calls - calls},
        {"compile_ms", ms(compiled - begin)}};
    const auto status = datapath_->generations().front();
    answer["build_ms"] = ms(status.build);
    answer["fill_ms"] = ms(status.fill);
    answer["load_ms"] = ms(status.load);
    answer["check_ms"] = ms(status.check);
    answer["swap_ms"] = ms(status.swap);
    return least_swap_ms().map([&](double least) {
      answer["least_ms"] = least;
      return answer;
    });
  }

 private:
  Bench(std::unique_ptr<datapath::Datapath> datapath, const Size& size)
      : datapath_(std::move(datapath)), cluster_(size) {}

  std::unique_ptr<datapath::Datapath> datapath_;
  policy::Compiler compiler_;
  Cluster cluster_;
  std::uint32_t seed_ = 0;
};

Result<void> run(std::span<char*> arguments) {
  if (arguments.size() != 4) return failure("usage: sluice_bench_generation BPFFS ENDPOINTS POLICIES PODS");
  const auto number = [&](std::size_t i) { return static_cast<unsigned>(std::atoi(arguments[i])); };
  auto bench = Bench::make(arguments[0], {number(1), number(2), number(3)});
  if (!bench) return tl::unexpected(bench.error());
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    auto answer = (*bench)->round();
    if (!answer) return tl::unexpected(answer.error());
    std::cout << answer->dump() << std::endl;
  }
  return {};
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::warn);  // standard output is for the figures
  const auto done = sluice::bench::run({argv + 1, argv + argc});
  if (done) return 0;
  fmt::print(stderr, "sluice_bench_generation: {}\n", done.error().message);
  return 1;
}
