// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/world.h"

#include <linux/pkt_cls.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <utility>

#include "common/address.h"
#include "firewall.skel.h"
#include "tests/bpf/lacking.h"
#include "tests/bpf/sandbox.h"

namespace sluice::bpftest {
namespace {

const char* const kReasons[] = {
#define SLUICE_X(name, text) #name,
    SLUICE_DROP_REASONS(SLUICE_X)
#undef SLUICE_X
};

int program_of(const Object& object, const char* name) {
  const bpf_program* found = bpf_object__find_program_by_name(object.get(), name);
  return found == nullptr ? -1 : bpf_program__fd(found);
}

template <typename Stats>
Stats sum_over_cpus(int map, std::uint32_t key) {
  constexpr std::size_t kWords = sizeof(Stats) / sizeof(std::uint64_t);
  std::vector<std::uint64_t> values(kWords * static_cast<std::size_t>(libbpf_num_possible_cpus()));
  need(bpf_map_lookup_elem(map, &key, values.data()) == 0, "per-CPU lookup");
  std::array<std::uint64_t, kWords> total{};
  for (std::size_t i = 0; i < values.size(); ++i) total[i % kWords] += values[i];
  Stats stats;
  std::memcpy(&stats, total.data(), sizeof stats);
  return stats;
}

// The counters that end a packet's way, by the name of the outcome.
std::vector<std::pair<std::string, std::uint64_t>> endings(const sluice_stats& stats) {
  std::vector<std::pair<std::string, std::uint64_t>> all{{"delivered", stats.delivered},
                                                         {"to_stack", stats.to_stack},
                                                         {"out_tunnel", stats.out_tunnel},
                                                         {"out_uplink", stats.out_uplink},
                                                         {"answered", stats.answered}};
  for (std::size_t i = 0; i < SLUICE_DROP_COUNT; ++i)
    all.emplace_back(std::string("dropped ") + kReasons[i], stats.drops[i]);
  return all;
}

int ifindex_of(sluice_hook hook, const Bytes& frame) {
  const int interfaces_of[] = {interfaces().pod_a, interfaces().net, interfaces().net, interfaces().uplink};
  // A pod's frame comes from that pod's interface.
  const bool from_b = hook == SLUICE_HOOK_POD && frame.size() >= 12 &&
                      std::equal(frame.begin() + 6, frame.begin() + 12, mac_of("podB").begin());
  return from_b ? interfaces().pod_b : interfaces_of[hook];
}

int expected_action(const std::string& outcome, sluice_hook hook, bool changed) {
  if (outcome.starts_with("dropped")) return TC_ACT_SHOT;
  if (outcome == "to_stack" && hook == SLUICE_HOOK_UPLINK && !changed) return TC_ACT_UNSPEC;
  return TC_ACT_REDIRECT;
}

}  // namespace

sluice_addr address(const std::string& ipv4) { return Address::from_v4_be(ipv4_be(ipv4)).abi(); }

sluice_route_key prefix(const std::string& ipv4, unsigned length) {
  return Prefix(Address::from_v4_be(ipv4_be(ipv4)), SLUICE_V4_PREFIX_BITS + length).abi();
}

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * SLUICE_NS_PER_S + static_cast<std::uint64_t>(now.tv_nsec);
}

void World::load(const void* (*elf_bytes)(std::size_t*)) {
  Object object = open_object(elf_bytes);
  need(bpf_object__load(object.get()) == 0, "bpf_object__load");
  objects_.push_back(std::move(object));
}

void World::SetUp() {
  fresh_modules();
  set_slot(SLUICE_MODULE_NAT, program("nat"));
  set_slot(SLUICE_MODULE_NAT_NEW, program("nat_new"));
  set_slot(SLUICE_MODULE_NAT_COMMIT, program("nat_commit"));
  set_slot(SLUICE_MODULE_REFUSE, program("refuse"));
  set_slot(SLUICE_MODULE_BRIDGE, program("bridge"));
  set_slot(SLUICE_MODULE_ROUTER, program("router"));
  set_slot(SLUICE_MODULE_DELIVER, program("deliver"));
  const std::uint32_t zero = 0;
  put("target", std::uint32_t{SLUICE_HOOK_POD}, program("entry_pod"));
  put("target", std::uint32_t{SLUICE_HOOK_HOST}, program("entry_host"));
  put("target", std::uint32_t{SLUICE_HOOK_OVERLAY}, program("entry_overlay"));
  put("target", std::uint32_t{SLUICE_HOOK_UPLINK}, program("entry_uplink"));

  sluice_config config{};
  config.node_ipv4 = address("192.0.2.1");
  config.gateway_ipv4 = address("10.1.0.1");
  config.local_snat_ipv4 = address("10.1.0.0");
  config.host_ifindex = static_cast<std::uint32_t>(interfaces().host);
  config.net_ifindex = static_cast<std::uint32_t>(interfaces().net);
  config.vxlan_ifindex = static_cast<std::uint32_t>(interfaces().net);
  config.uplinks = 1;
  config.node_number = kNodeNumber;
  config.local_number = kLocalNumber;
  config.vni = kVni;
  config.vxlan_port_be = htons(4789);
  config.snat_port_min = SLUICE_SNAT_PORT_MIN;
  config.snat_port_max = SLUICE_SNAT_PORT_MAX;
  config.conntrack_groups = kConntrackGroups;
  std::ranges::copy(kConntrackSecret, config.conntrack_secret);
  std::ranges::copy(mac_of("gateway"), config.gateway_mac);
  put("config", zero, config);
  put("masquerade_addresses", std::uint32_t{kNodeNumber}, config.node_ipv4);
  put("masquerade_addresses", std::uint32_t{kLocalNumber}, config.local_snat_ipv4);
  add_uplink(interfaces().uplink, kNodeNumber);
  add_endpoint(kPodA, "10.1.0.2", "podA", interfaces().pod_a);
  add_endpoint(kPodB, "10.1.0.3", "podB", interfaces().pod_b);
  add_route("10.1.0.0", 24, SLUICE_ROUTE_PODS);
  add_route("10.1.0.1", 32, SLUICE_ROUTE_HOST);
  add_route("192.0.2.1", 32, SLUICE_ROUTE_HOST);
  add_route("192.0.2.2", 32, SLUICE_ROUTE_NODE, "192.0.2.2");
  add_route("10.2.0.0", 24, SLUICE_ROUTE_TUNNEL, "192.0.2.2");
  go_live(load_generation({}), {});
}

void World::TearDown() {
  const sluice_stats total = stats();
  std::uint64_t in = 0, out = 0;
  for (const std::uint64_t count : total.in) in += count;
  for (const auto& [name, count] : endings(total)) out += count;
  EXPECT_EQ(in, out) << "packets in, packets accounted for";
  firewall_.reset();
  objects_.clear();
}

int World::program(const char* name) const {
  for (const auto* objects : {&std::as_const(modules()), &objects_})
    for (const Object& object : *objects)
      if (const int fd = program_of(object, name); fd >= 0) return fd;
  throw std::runtime_error(std::string("no program ") + name);
}

int World::map(const std::string& name) const {
  for (const auto* objects : {&std::as_const(modules()), &objects_})
    for (const Object& object : *objects)
      if (const int fd = bpf_object__find_map_fd_by_name(object.get(), name.c_str()); fd >= 0) return fd;
  throw std::runtime_error("no map " + name);
}

World::Run World::run(int program, int ifindex, const Bytes& in, Bytes& out, int times) const {
  out.assign(in.size() + 256, 0);
  __sk_buff context{};
  context.ifindex = static_cast<std::uint32_t>(ifindex);
  context.gso_size = gso_size_;
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = in.data();
  options.data_size_in = static_cast<std::uint32_t>(in.size());
  options.data_out = out.data();
  options.data_size_out = static_cast<std::uint32_t>(out.size());
  options.ctx_in = &context;
  options.ctx_size_in = sizeof context;
  options.repeat = times;
  need(bpf_prog_test_run_opts(program, &options) == 0, "BPF_PROG_TEST_RUN");
  out.resize(options.data_size_out);
  return {static_cast<int>(options.retval), options.duration};
}

Seen World::send(sluice_hook hook, const Bytes& frame) {
  const char* const programs[] = {"entry_pod", "entry_host", "tunnelled", "entry_uplink"};
  if (hook == SLUICE_HOOK_OVERLAY) {
    need_tunnel_source();
    set_arrival({ntohl(ipv4_be(tunnel_source_)), tunnel_vni_, 0, 0});
  }
  const auto before = endings(stats());
  const std::uint64_t in_before = stats().in[hook];
  Seen seen;
  const int action = run(program(programs[hook]), ifindex_of(hook, frame), frame, seen.bytes).returned;
  seen.out = describe(seen.bytes);
  const auto after = endings(stats());
  EXPECT_EQ(stats().in[hook], in_before + 1);
  for (std::size_t i = 0; i < after.size(); ++i)
    for (std::uint64_t n = before[i].second; n < after[i].second; ++n)
      seen.outcome += (seen.outcome.empty() ? "" : ", ") + after[i].first;
  EXPECT_EQ(action, expected_action(seen.outcome, hook, seen.bytes != frame)) << seen.outcome;
  return seen;
}

void World::set_arrival(const std::array<std::uint32_t, 4>& value) {
  put("arrival", std::uint32_t{0}, value);
}

Seen World::send_cut(sluice_hook hook, const Bytes& frame, std::size_t length) {
  if (hook == SLUICE_HOOK_OVERLAY) need_tunnel_source();
  set_arrival({ntohl(ipv4_be(tunnel_source_)), tunnel_vni_, static_cast<std::uint32_t>(length), hook});
  return run_entry("shortened", ifindex_of(hook, frame), frame);
}

Seen World::run_entry(const char* name, int ifindex, const Bytes& frame) {
  const auto before = endings(stats());
  Seen seen;
  static_cast<void>(run(program(name), ifindex, frame, seen.bytes));
  seen.out = describe(seen.bytes);
  const auto after = endings(stats());
  for (std::size_t i = 0; i < after.size(); ++i)
    if (after[i].second != before[i].second) seen.outcome += after[i].first;
  return seen;
}

int World::run_program(const char* name, const Bytes& data, Bytes* out) {
  Bytes left;
  return run(program(name), interfaces().pod_a, data, out ? *out : left).returned;
}

std::uint32_t World::mean_ns(const char* program_name, const Bytes& frame, int times) {
  Bytes out;
  return run(program(program_name), interfaces().pod_a, frame, out, times).mean_ns;
}

int World::probe(const sluice_probe& asked) {
  Bytes data(14 + sizeof asked);
  std::memcpy(&data[14], &asked, sizeof asked);
  return run_program("probe", data);
}

void World::change_config(const std::function<void(sluice_config&)>& change) {
  const std::uint32_t zero = 0;
  auto config = get<sluice_config>("config", zero);
  change(*config);
  put("config", zero, *config);
}

void World::add_endpoint(std::uint32_t id, const std::string& ipv4, const std::string& mac, int ifindex) {
  sluice_endpoint endpoint{};
  endpoint.ipv4 = address(ipv4);
  endpoint.ifindex = static_cast<std::uint32_t>(ifindex);
  sluice_mac_key key{};
  std::ranges::copy(mac_of(mac), endpoint.mac);
  std::ranges::copy(mac_of(mac), key.mac);
  put("endpoints", id, endpoint);
  put("ifaces", sluice_iface_key{endpoint.ifindex}, id);
  put("macs", key, id);
  put("locals", endpoint.ipv4, id);
}

void World::add_uplink(int ifindex, std::uint8_t number, std::uint8_t flags) {
  const auto index = static_cast<std::uint32_t>(ifindex);
  put("uplinks", index, sluice_uplink{index, number, flags, {}});
}

void World::add_route(const std::string& ipv4, unsigned length, std::uint32_t kind,
                      const std::string& tunnel) {
  put("routes", prefix(ipv4, length), sluice_route{kind, tunnel.empty() ? 0 : ipv4_be(tunnel)});
}

sluice_stats World::stats() { return sum_over_cpus<sluice_cpu>(map("packet"), 0).stats; }

sluice_generation_stats World::counters(std::uint32_t slot) {
  return sum_over_cpus<sluice_generation_stats>(map("generation_stats"), slot);
}

Firewall World::load_generation(const Generation& generation) {
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.pin_root_path = pins().c_str();
  Firewall firewall(firewall_bpf__open_opts(&options));
  need(firewall != nullptr, "open the firewall");
  firewall->rodata->generation_number = generation.number;
  firewall->rodata->generation_slot = generation.slot;
  firewall->rodata->uses_blocks = generation.uses_blocks;
  firewall->rodata->uses_ports = generation.uses_ports;
  firewall->rodata->uses_port_tables = generation.uses_port_tables;
  firewall->rodata->uses_default_rows = generation.uses_default_rows;
  size_conntrack(firewall->obj);
  need(firewall_bpf__load(firewall.get()) == 0, "load the firewall");
  for (const std::uint32_t endpoint : {kPodA, kPodB})
    set_policy(firewall, endpoint, {{0, 0}, {0, 0}, SLUICE_POLICY_VALID, 0, {}, {}});
  return firewall;
}

void World::set_slot(sluice_module slot, const Firewall& firewall) {
  set_slot(slot, bpf_program__fd(firewall->progs.firewall));
}

void World::set_policy(const Firewall& firewall, std::uint32_t endpoint, const sluice_policy& policy) {
  const int fd = bpf_map__fd(firewall->maps.generation);
  ASSERT_EQ(bpf_map_update_elem(fd, &endpoint, &policy, BPF_ANY), 0);
}

void FirewallCloser::operator()(firewall_bpf* skeleton) const { firewall_bpf__destroy(skeleton); }

}  // namespace sluice::bpftest
