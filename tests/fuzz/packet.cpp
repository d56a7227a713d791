// SPDX-License-Identifier: Apache-2.0
// Packets through all modules, compiled from bpf/*.bpf.c as they are. An input is a row of packets:
//   1 byte how it arrives (struct Control), 1 byte length of the linear area (255: all of it),
//   2 bytes length (little endian), the frame.
// Checked: no access outside of what a program may read; every packet ends in exactly one counter, which
// agrees with the program's answer; and what must not pass, by a check of its own, does not.
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "bpf/abi.h"
#include "common/address.h"
#include "tests/fuzz/kernel.h"

extern "C" {
int entry_pod(__sk_buff*);
int entry_host(__sk_buff*);
int entry_overlay(__sk_buff*);
int entry_uplink(__sk_buff*);
int entry_bare(__sk_buff*);
int nat(__sk_buff*);
int nat_new(__sk_buff*);
int nat_commit(__sk_buff*);
int refuse(__sk_buff*);
int bridge(__sk_buff*);
int router(__sk_buff*);
int firewall(__sk_buff*);
int deliver(__sk_buff*);
// The maps' symbols; only their addresses are used.
extern char packet, config, uplinks, masquerade_addresses, endpoints, ifaces, macs, locals, routes, conntrack,
    conntrack_groups, conntrack_use, fragments, generation, services, service_addresses, service_slots,
    backends, tunnel_flows;
}

namespace sluice::fuzz {
namespace {

constexpr std::uint32_t kOpenPod = 1, kClosedPod = 2;  // what they admit: everything, nothing
constexpr std::uint32_t kOpenIf = 11, kClosedIf = 12, kHostIf = 20, kNetIf = 21, kTunnelIf = 22,
                        kUplinkIf = kUplink;
constexpr std::uint32_t kVni = 83, kOtherNode = 0xc0000202;

struct Control {
  unsigned hook;
  bool vlan, other_host, no_tunnel, strange_tunnel, closed_pod, strange_interface;
  explicit Control(std::uint8_t bits)
      : hook(bits & 3),
        vlan(bits & 4),
        other_host(bits & 8),
        no_tunnel(bits & 16),
        strange_tunnel(bits & 32),
        closed_pod(bits & 64),
        strange_interface(bits & 128) {}
  [[nodiscard]] bool bare() const { return hook == SLUICE_HOOK_UPLINK && closed_pod; }
};

[[noreturn]] void broken(const char* what) {
  std::fprintf(stderr, "packet fuzzer: %s\n", what);
  std::abort();
}
void check(bool good, const char* what) {
  if (!good) broken(what);
}

sluice_addr address(const char* ipv4) { return Address::parse(ipv4)->abi(); }

void add_pod(std::uint32_t id, const char* ipv4, std::uint32_t ifindex) {
  const auto ip = *Address::parse(ipv4);
  sluice_endpoint endpoint{};
  endpoint.ipv4 = ip.abi();
  endpoint.ifindex = ifindex;
  const auto mac = Mac::of_pod(ip).bytes();
  sluice_mac_key key{};
  std::copy(mac.begin(), mac.end(), endpoint.mac);
  std::copy(mac.begin(), mac.end(), key.mac);
  put(&endpoints, BPF_MAP_TYPE_ARRAY, id, endpoint);
  put(&ifaces, BPF_MAP_TYPE_HASH, sluice_iface_key{ifindex}, id);
  put(&macs, BPF_MAP_TYPE_HASH, key, id);
  put(&locals, BPF_MAP_TYPE_HASH, endpoint.ipv4, id);
}

void add_route(const char* prefix, std::uint32_t kind, std::uint32_t node = 0) {
  put(&routes, BPF_MAP_TYPE_LPM_TRIE, Prefix::parse(prefix)->abi(), sluice_route{kind, htonl(node)});
}

void add_service(const char* ipv4, std::uint16_t port, std::uint8_t scope, std::uint32_t backends) {
  for (const std::uint8_t proto : {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP}) {
    const sluice_service_key key{address(ipv4), htons(port), proto, scope, 0};
    sluice_service service{0, 0, backends, scope == SLUICE_SCOPE_OUTSIDE ? SLUICE_SERVICE_MASQUERADE : 0u, 0};
    service.seal = sluice_service_seal(&key, &service);
    put(&services, BPF_MAP_TYPE_HASH, key, service);
  }
}

// The small cluster of tests/bpf/world.h; podB admits nothing.
bool make_cluster() {
  const Program programs[] = {nullptr, nat, bridge, router, firewall, nat_commit, deliver};
  for (std::uint32_t slot = 1; slot < std::size(programs); ++slot) set_slot(slot, programs[slot]);
  set_slot(SLUICE_MODULE_NAT_NEW, nat_new);
  set_slot(SLUICE_MODULE_REFUSE, refuse);
  sluice_config node{};
  node.node_ipv4 = address("192.0.2.1");
  node.snat_port_min = SLUICE_SNAT_PORT_MIN;
  node.snat_port_max = SLUICE_SNAT_PORT_MAX;
  node.gateway_ipv4 = address("10.1.0.1");
  node.local_snat_ipv4 = address("10.1.0.0");
  node.host_ifindex = kHostIf;
  node.net_ifindex = kNetIf;
  node.vxlan_ifindex = kTunnelIf;
  node.uplinks = 1;
  node.node_number = 1;
  node.local_number = 2;
  node.vni = kVni;
  node.tunnel_port_be = node.vxlan_port_be = htons(4789);
  node.conntrack_groups = 1;
  std::fill_n(node.conntrack_secret, std::size(node.conntrack_secret), SLUICE_HASH_1);
  node.monitor = SLUICE_MONITOR_DROPS | SLUICE_MONITOR_VERDICTS;
  const auto mac = Mac::of_pod(*Address::parse("10.1.0.1")).bytes();
  std::copy(mac.begin(), mac.end(), node.gateway_mac);
  put(&config, BPF_MAP_TYPE_ARRAY, std::uint32_t{0}, node);
  put(&masquerade_addresses, BPF_MAP_TYPE_ARRAY, std::uint32_t{1}, node.node_ipv4);
  put(&masquerade_addresses, BPF_MAP_TYPE_ARRAY, std::uint32_t{2}, node.local_snat_ipv4);
  put(&uplinks, BPF_MAP_TYPE_HASH, std::uint32_t{kUplinkIf},
      sluice_uplink{kUplinkIf, 1, SLUICE_UPLINK_ETHERNET | SLUICE_UPLINK_UNDERLAY, {}});
  add_pod(kOpenPod, "10.1.0.2", kOpenIf);
  add_pod(kClosedPod, "10.1.0.3", kClosedIf);
  add_route("10.1.0.0/24", SLUICE_ROUTE_PODS);
  add_route("10.1.0.1/32", SLUICE_ROUTE_HOST);
  add_route("192.0.2.1/32", SLUICE_ROUTE_HOST);
  add_route("192.0.2.2/32", SLUICE_ROUTE_NODE, kOtherNode);
  add_route("10.2.0.0/24", SLUICE_ROUTE_TUNNEL, kOtherNode);
  const char* const served_by[] = {"10.1.0.2", "10.1.0.3", "10.2.0.9", "198.51.100.7", "192.0.2.1"};
  for (std::uint32_t i = 0; i < std::size(served_by); ++i) {
    put(&backends, BPF_MAP_TYPE_ARRAY, i + 1, sluice_backend{address(served_by[i]), htons(8080), {}});
    put(&service_slots, BPF_MAP_TYPE_ARRAY, i, i + 1);
  }
  put(&service_addresses, BPF_MAP_TYPE_LPM_TRIE, Prefix::parse("10.96.0.0/16")->abi(), std::uint32_t{0});
  for (const auto scope : {SLUICE_SCOPE_INSIDE, SLUICE_SCOPE_OUTSIDE}) {
    add_service("10.96.0.1", 80, scope, std::size(served_by));
    add_service("10.96.0.2", 80, scope, 0);
    add_service("192.0.2.1", 30080, scope, std::size(served_by));
  }
  put(&generation, BPF_MAP_TYPE_ARRAY, kOpenPod,
      sluice_policy{{0, 0}, {0, 0}, SLUICE_POLICY_VALID, 0, {}, {}});
  put(&generation, BPF_MAP_TYPE_ARRAY, kClosedPod,
      sluice_policy{{0, 0},
                    {0, 0},
                    SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS | SLUICE_POLICY_ISOLATED_EGRESS,
                    0,
                    {},
                    {}});
  return true;
}

unsigned get16(const Bytes& bytes, std::size_t at) { return bytes[at] << 8 | bytes[at + 1]; }

// Must a pod's frame be refused whatever its connection? Written from the RFCs, not from the modules.
bool must_drop(const Bytes& frame, const Control& control) {
  const std::string own = control.closed_pod ? "10.1.0.3" : "10.1.0.2";
  const auto ip = *Address::parse(own);
  const auto mac = Mac::of_pod(ip).bytes();
  if (control.strange_interface || frame.size() < 14 || control.vlan) return true;
  if (!std::equal(mac.begin(), mac.end(), frame.begin() + 6)) return true;
  const auto sender_is_own = [&](std::size_t at) {
    return frame.size() >= at + 4 && std::memcmp(&frame[at], ip.bytes().data() + 12, 4) == 0;
  };
  if (get16(frame, 12) == 0x0806) return frame.size() < 42 || !sender_is_own(28);
  if (get16(frame, 12) != 0x0800 || frame.size() < 34) return true;
  const std::size_t header = (frame[14] & 15u) * 4u, total = get16(frame, 16);
  if (frame[14] >> 4 != 4 || header < 20 || total < header || 14 + total > frame.size()) return true;
  const bool broadcast = std::all_of(&frame[30], &frame[34], [](std::uint8_t byte) { return byte == 0xff; });
  if (!sender_is_own(26) || frame[0] & 1 || frame[30] >> 4 == 14 || broadcast) return true;
  const bool later = get16(frame, 20) & 0x1fff;
  const unsigned proto = frame[23];
  const std::size_t l4 = total - header;
  if (later) return proto == IPPROTO_TCP && (get16(frame, 20) & 0x1fff) == 1;
  if (proto == IPPROTO_TCP) return l4 < 20 || (frame[14 + header + 12] >> 4) < 5;
  if (proto == IPPROTO_UDP || proto == IPPROTO_ICMP) return l4 < 8;
  return proto == IPPROTO_SCTP && l4 < 12;
}

std::uint64_t ended(const sluice_stats& now) {
  std::uint64_t sum = now.delivered + now.to_stack + now.out_tunnel + now.out_uplink + now.answered;
  for (const auto count : now.drops) sum += count;
  return sum;
}

void check_counters(const sluice_stats& before, const sluice_stats& after, const Control& control,
                    int action) {
  const bool direct = after.direct_in != before.direct_in;
  const unsigned hook = direct ? unsigned{SLUICE_HOOK_OVERLAY} : control.hook;
  check(!direct || control.hook == SLUICE_HOOK_UPLINK,
        "a packet of the tunnel at another hook than the uplink");
  check(after.in[hook] == before.in[hook] + 1, "a packet came in and was not counted");
  check(ended(after) == ended(before) + 1, "a packet did not end in exactly one counter");
  std::uint64_t dropped = 0;
  for (std::size_t i = 0; i < std::size(after.drops); ++i) dropped += after.drops[i] - before.drops[i];
  check((action == TC_ACT_SHOT) == (dropped == 1), "the action contradicts the counters");
  check(after.drops[SLUICE_DROP_NONE] == before.drops[SLUICE_DROP_NONE], "dropped for no reason");
  if (action == TC_ACT_UNSPEC)
    check(control.hook == SLUICE_HOOK_UPLINK && after.to_stack == before.to_stack + 1,
          "left to the stack from another hook than the uplink");
}

// Came it by the tunnel from the other node, for this one? Written from RFC 7348.
bool of_the_tunnel(const Bytes& frame) {
  return frame.size() >= 14 + 50 + 20 && get16(frame, 12) == 0x0800 && frame[14] == 0x45 &&
         get16(frame, 26) << 16 == (kOtherNode & 0xffff0000) && get16(frame, 28) == (kOtherNode & 0xffff) &&
         get16(frame, 30) == 0xc000 && get16(frame, 32) == 0x0201 && frame[23] == IPPROTO_UDP &&
         get16(frame, 36) == 4789 && frame[42] == 8 && frame[48] == kVni && get16(frame, 62) == 0x0800;
}

// An Ethernet header that it came without is put before it.
bool same_packet(const Bytes& left, const Arrival& arrival) {
  if (!arrival.bare) return left == arrival.frame;
  const auto header = std::min<std::ptrdiff_t>(14, std::ssize(arrival.frame));
  return std::equal(left.begin() + 14, left.end(), arrival.frame.begin() + header, arrival.frame.end());
}

void check_fate(const Arrival& arrival, const Departure& left, const Control& control, bool answered) {
  const auto& seen = get<sluice_cpu>(&packet, BPF_MAP_TYPE_PERCPU_ARRAY, 0)->packet;
  if (left.action == TC_ACT_UNSPEC) check(same_packet(left.frame, arrival), "the stack's packet was changed");
  if (left.action != TC_ACT_REDIRECT) return;
  if (control.hook == SLUICE_HOOK_POD)
    check(!must_drop(arrival.frame, control), "passed, though it must not");
  if (control.hook == SLUICE_HOOK_OVERLAY)
    check(!control.no_tunnel && !control.strange_tunnel, "passed from a tunnel that is nobody's");
  if (control.hook == SLUICE_HOOK_UPLINK && seen.hook == SLUICE_HOOK_OVERLAY)
    check(of_the_tunnel(arrival.frame) && !control.other_host && !control.vlan, "taken for the tunnel's");
  // What is answered goes back where it came from, and is no traffic that policy knows.
  if (answered) return check(left.redirected_to == arrival.ifindex, "answered somebody else");
  const bool own_node = seen.flags & SLUICE_PKT_OWN_NODE;
  const bool to_itself = seen.src_endpoint == seen.dst_endpoint;
  if (left.redirected_to == kClosedIf) check(own_node || to_itself, "reached a pod that admits nothing");
  if (seen.src_endpoint == kClosedPod) check(own_node || to_itself, "left a pod that may send nothing");
  if (control.hook == SLUICE_HOOK_POD && left.redirected_to == kUplinkIf && seen.state == SLUICE_STATE_NEW)
    check(get16(left.frame, 30) != 0x0a60, "left the node for an address of Services");
  if (left.redirected_to == kOpenIf || left.redirected_to == kClosedIf)
    check(seen.output == SLUICE_OUTPUT_POD, "delivered to a pod by another module's decision");
}

void send(const Control& control, std::uint8_t linear, Bytes frame) {
  static const Program hooks[] = {entry_pod, entry_host, entry_overlay, entry_uplink};
  static const std::uint32_t interfaces[] = {kOpenIf, kNetIf, kTunnelIf, kUplinkIf};
  Arrival arrival;
  arrival.frame = std::move(frame);
  arrival.linear = linear == 255 ? static_cast<std::uint32_t>(arrival.frame.size()) : linear;
  arrival.ifindex = control.strange_interface                               ? 99
                    : control.closed_pod && control.hook == SLUICE_HOOK_POD ? kClosedIf
                                                                            : interfaces[control.hook];
  arrival.bare = control.bare();
  arrival.vlan = control.vlan;
  arrival.other_host = control.other_host;
  arrival.tunnel_source = control.no_tunnel ? 0 : kOtherNode;
  arrival.tunnel_vni = control.strange_tunnel ? kVni + 1 : kVni;
  const auto before = get<sluice_cpu>(&packet, BPF_MAP_TYPE_PERCPU_ARRAY, 0)->stats;
  const auto left = run(control.bare() ? entry_bare : hooks[control.hook], arrival);
  const auto& after = get<sluice_cpu>(&packet, BPF_MAP_TYPE_PERCPU_ARRAY, 0)->stats;
  check_counters(before, after, control, left.action);
  const bool answered = after.answered != before.answered;
  check_fate(arrival, left, control, answered);
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice::fuzz;
  [[maybe_unused]] static const bool made = make_cluster();
  clear_map(&conntrack_groups);
  clear_map(&conntrack);
  clear_map(&conntrack_use);
  clear_map(&fragments);
  clear_map(&tunnel_flows);
  constexpr std::size_t kHead = 4;
  while (size >= kHead) {
    const std::size_t length = std::min<std::size_t>(data[2] | data[3] << 8, size - kHead);
    send(Control(data[0]), data[1], Bytes(data + kHead, data + kHead + length));
    data += kHead + length;
    size -= kHead + length;
  }
  const auto uses = *get<std::int64_t>(&conntrack_use, BPF_MAP_TYPE_ARRAY, SLUICE_CT_USE_ALL);
  std::int64_t entries = 0;
  for (const auto& tags : get<sluice_ct_group>(&conntrack_groups, BPF_MAP_TYPE_ARRAY, 0)->tags)
    for (const auto word : tags.word) entries += std::popcount(word & 0x8000800080008000);
  check(uses == entries, "an entry of conntrack is not counted, or one too many");
  return 0;
}
