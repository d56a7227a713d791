// SPDX-License-Identifier: Apache-2.0
// The modules as a node runs them, without the node: loaded into a bpffs and a network namespace of the
// test's own, their maps filled for the small cluster below, packets sent by BPF_PROG_TEST_RUN.
//
//   podA 10.1.0.2, endpoint 1    this node 192.0.2.1, gateway 10.1.0.1      the world: 198.51.100.7
//   podB 10.1.0.3, endpoint 2    other node 192.0.2.2, its pods 10.2.0.0/24
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "tests/bpf/frame.h"

struct firewall_bpf;

namespace sluice::bpftest {

inline constexpr std::uint32_t kPodA = 1, kPodB = 2;
inline constexpr std::uint32_t kVni = 83;
// Of 192.0.2.1 and of 10.1.0.0 in `masquerade_addresses`.
inline constexpr std::uint8_t kNodeNumber = 1, kLocalNumber = 2;
inline constexpr std::uint32_t kConntrackMax = 8192;
inline constexpr __u64 kConntrackSecret[] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb,
                                             0xd6e8feb86659fd93, 0xa0761d6478bd642f};
inline constexpr std::uint32_t kConntrackGroups = kConntrackMax / SLUICE_CT_GROUP_ENTRIES;

[[nodiscard]] std::uint64_t now_ns();

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, ObjectCloser>;
struct FirewallCloser {
  void operator()(firewall_bpf* skeleton) const;
};
using Firewall = std::unique_ptr<firewall_bpf, FirewallCloser>;

// What became of a packet. `outcome`: "delivered", "to_stack", "out_tunnel", "out_uplink", "answered" or
// "dropped <REASON>": the one counter that moved. `out`: describe() of the packet as it left.
struct Seen {
  std::string outcome;
  std::string out;
  Bytes bytes;
};

struct Tuple {  // a connection, originator first
  std::string src = {};
  std::uint16_t sport = 0;
  std::string dst = {};
  std::uint16_t dport = 0;
  std::uint8_t proto = IPPROTO_UDP;
};

struct Connection {  // what an entry of conntrack says, freed of seal and tags
  std::uint64_t last_seen_ns = now_ns();
  std::uint64_t stamp = 0;
  sluice_ct_nat nat = {};
  std::uint32_t progress = 0;  // enum sluice_ct_progress
  std::uint32_t owner = 0;
};
[[nodiscard]] sluice_ct_entry entry_of(const sluice_ct_key& key, const Connection& connection);

struct Generation {  // constants of a firewall program
  std::uint32_t number = 1;
  std::uint32_t slot = 0;
  bool uses_blocks = true;
  bool uses_ports = true;
  bool uses_port_tables = true;
  bool uses_default_rows = true;
};

[[nodiscard]] sluice_addr address(const std::string& ipv4);
[[nodiscard]] sluice_route_key prefix(const std::string& ipv4, unsigned length);

// Interfaces of the test's namespace.
struct Interfaces {
  int pod_a = 0, pod_b = 0, stranger = 0, host = 0, net = 0, uplink = 0;
};
[[nodiscard]] const Interfaces& interfaces();

class World : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;  // asserts that every packet sent is accounted for

  Seen send(sluice_hook hook, const Bytes& frame);
  Seen send(sluice_hook hook, const Frame& frame) { return send(hook, build(frame)); }
  // To entry_pod, on another interface.
  Seen send_on(int ifindex, const Bytes& frame) { return run_entry("entry_pod", ifindex, frame); }
  // The frame's first `length` bytes, though its EtherType promises more.
  Seen send_cut(sluice_hook hook, const Bytes& frame, std::size_t length);
  // To entry_uplink, of the node itself or of another one by the tunnel.
  Seen send_from_wire(const Bytes& frame) { return run_entry("entry_uplink", interfaces().uplink, frame); }
  Seen send_tagged(const Bytes& frame) { return run_entry("tagged", interfaces().pod_a, frame); }
  void load(const void* (*elf_bytes)(std::size_t*));  // an object, by its skeleton's function
  // Its return value; `out`: what it made of the data.
  int run_program(const char* name, const Bytes& data = Bytes(ETH_HLEN + sizeof(iphdr)),
                  Bytes* out = nullptr);
  // What a run took, repeated with the same packet.
  std::uint32_t mean_ns(const char* program_name, const Bytes& frame, int times);
  // The probe's answer: 0 or SLUICE_PROBE_RESULT + reason.
  int probe(const sluice_probe& asked);

  [[nodiscard]] int program(const char* name) const;
  [[nodiscard]] int map(const std::string& name) const;
  template <typename Key, typename Value>
  void put(const std::string& name, const Key& key, const Value& value) {
    ASSERT_EQ(bpf_map_update_elem(map(name), &key, &value, BPF_ANY), 0) << name << ": " << strerror(errno);
  }
  template <typename Value, typename Key>
  std::optional<Value> get(const std::string& name, const Key& key) {
    Value value{};
    if (bpf_map_lookup_elem(map(name), &key, &value)) return std::nullopt;
    return value;
  }
  template <typename Key>
  void erase(const std::string& name, const Key& key) {
    ASSERT_EQ(bpf_map_delete_elem(map(name), &key), 0) << name;
  }

  void change_config(const std::function<void(sluice_config&)>& change);
  void add_endpoint(std::uint32_t id, const std::string& ipv4, const std::string& mac, int ifindex);
  void add_uplink(int ifindex, std::uint8_t number,
                  std::uint8_t flags = SLUICE_UPLINK_ETHERNET | SLUICE_UPLINK_UNDERLAY);
  void add_route(const std::string& ipv4, unsigned length, std::uint32_t kind,
                 const std::string& tunnel = "");

  // Conntrack.
  [[nodiscard]] static sluice_ct_key key_of(const Tuple& tuple);
  std::optional<Connection> connection(const Tuple& tuple);  // expects it to be whole
  void put_connection(const Tuple& tuple, const Connection& connection);
  void put_entry(const sluice_ct_key& key, const sluice_ct_entry& entry);
  void erase_entry(const sluice_ct_key& key);
  struct Way {
    std::uint32_t set;  // of the group
    std::uint32_t way;
    std::uint32_t place;  // of the pool
  };
  std::optional<Way> way_of(const sluice_ct_key& key);
  // Others take all ways of its sets that are free.
  void fill_sets_of(const sluice_ct_key& key);
  // Of its two sets the one that it goes into first.
  static std::uint32_t set_of(const sluice_ct_key& key);
  static std::uint16_t tag_of(const sluice_ct_key& key);
  void change_connection(const Tuple& tuple, const std::function<void(Connection&)>& change);
  // The entry as it stands in the map, as other CPUs may leave it.
  std::optional<sluice_ct_entry> entry(const Tuple& tuple);
  void change_entry(const Tuple& tuple, const std::function<void(sluice_ct_entry&)>& change);
  std::uint32_t connections();
  void forget_connections();

  // Firewall. A generation admits everything until told otherwise.
  Firewall load_generation(const Generation& generation);
  void go_live(Firewall firewall, const Generation& generation);  // the slot's write, then `live`
  void set_slot(sluice_module slot, const Firewall& firewall);
  void set_slot(sluice_module slot, int program);
  void clear_slot(sluice_module slot);
  void set_live(std::uint32_t generation, std::uint32_t epoch);
  void set_policy(const Firewall& firewall, std::uint32_t endpoint, const sluice_policy& policy);
  void set_policy(std::uint32_t endpoint, const sluice_policy& policy) {
    set_policy(firewall_, endpoint, policy);
  }
  void set_class(const std::string& peer, std::uint32_t number, std::uint32_t slot = 0);
  void set_block(const std::string& ipv4, unsigned length, std::uint32_t number);
  void set_row(std::uint32_t table, std::uint32_t peer_class, const std::vector<unsigned>& port_classes);
  void set_port(std::uint32_t table, std::uint8_t proto, std::uint16_t port, unsigned bits,
                std::uint32_t number);
  sluice_generation_stats counters(std::uint32_t slot = 0);
  sluice_stats stats();

  std::vector<sluice_event> events();
  // Where the tunnel packets come from that send(SLUICE_HOOK_OVERLAY) makes.
  std::string tunnel_source_ = "192.0.2.2";
  std::uint32_t tunnel_vni_ = kVni;
  std::uint32_t gso_size_ = 0;  // of packets: what an interface would cut them into
  Firewall firewall_;

 private:
  void set_arrival(const std::array<std::uint32_t, 4>& value);
  Seen run_entry(const char* name, int ifindex, const Bytes& frame);
  struct Run {
    int returned;
    std::uint32_t mean_ns;
  };
  [[nodiscard]] Run run(int program, int ifindex, const Bytes& in, Bytes& out, int times = 1) const;

  std::vector<Object> objects_;  // beside the modules
};

}  // namespace sluice::bpftest
