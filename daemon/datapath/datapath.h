// SPDX-License-Identifier: Apache-2.0
// The kernel side of the daemon: loads and pins the modules and maps, attaches endpoints, and makes rulesets
// live. Not thread-safe, but for the functions marked so: one thread (the controller's) owns it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bpf/abi.h"
#include "common/address.h"
#include "common/fd.h"
#include "common/paths.h"
#include "common/result.h"
#include "daemon/policy/cluster.h"
#include "daemon/policy/ruleset.h"
#include "daemon/service/table.h"

namespace sluice::datapath {

// How programs are attached to interfaces that have none yet. kAuto: by tcx where the kernel has it (6.6),
// but pods' links that are Sluice's alone by clsact first, which is quicker, until they are moved.
enum class AttachMode { kAuto, kTcx, kClsact };

// How a new connection to a Service gets its backend: by its addresses and ports, or by these and the time.
enum class Algorithm { kMaglev, kRandom };

struct Options {
  std::string bpffs = kDefaultBpffs;  // must be a mounted bpffs; pins go to <bpffs>/sluice/v<ABI>/
  AttachMode attach = AttachMode::kAuto;
  std::uint32_t conntrack_max = 0;  // entries, of a new table; 0: by the memory of the machine
  // Addresses of pods that the firewall knows at first, and at most: its map grows with them. For tests.
  std::uint32_t peers = SLUICE_PEERS, most_peers = SLUICE_MAX_PEERS;
  std::uint16_t vxlan_port = 4789;
  std::uint32_t vni = 83;
  bool tunnel_direct = true;  // past the VXLAN device and the stack, where nothing is against it
  // A cgroup v2, or a folder with one in "unified", that all processes of the node are in; empty: none is
  // used.
  std::string cgroup = "/sys/fs/cgroup";
  // Masquerade ports, the last one included.
  std::uint16_t snat_port_min = SLUICE_SNAT_PORT_MIN, snat_port_max = SLUICE_SNAT_PORT_MAX;
  Algorithm algorithm = Algorithm::kMaglev;
};

// The node's own place in the network. Applying it makes the devices (sluice_host/sluice_net, sluice_vxlan),
// their addresses and the host's routes to pods, attaches the uplinks, and fills `routes`, `uplinks` and
// `config`. Idempotent.
struct NodeConfig {
  std::vector<Prefix> pod_cidrs;        // of this node; the first address after the network's is the gateway
  std::vector<Address> former_pods;     // of this node, with addresses of podCIDRs that it had before
  std::vector<Address> former_gateways;  // theirs
  std::vector<Address> node_addresses;  // every address of this node that pods reach as "the node itself"
  std::optional<Address> node_ipv4;     // by which other nodes know it: the tunnel's end
  struct Uplink {                       // an interface by which packets leave the node, and answers come
    std::string name;
    std::uint32_t ifindex = 0;
    Address source;  // of what leaves there masqueraded
    unsigned mtu = 0;
    bool ethernet = true;
    bool underlay = false;  // leads to the other nodes
    bool operator==(const Uplink&) const = default;
  };
  std::vector<Uplink> uplinks;  // at most SLUICE_MAX_UPLINKS
  unsigned pod_mtu = 1450;
  std::vector<Prefix> non_masquerade;  // destinations outside of the cluster to which pods keep their address
  struct Remote {                      // another node
    std::string name;
    std::vector<Prefix> pod_cidrs;
    std::vector<Address> addresses;
    [[nodiscard]] std::optional<Address> tunnel_end() const {  // the first IPv4 one
      for (const auto& address : addresses)
        if (address.is_v4()) return address;
      return std::nullopt;
    }
    bool operator==(const Remote&) const = default;
  };
  std::vector<Remote> remotes;  // their podCIDRs are also those of before, where pods still have addresses
  bool operator==(const NodeConfig&) const = default;
};

// By which the pods of a podCIDR know the node.
[[nodiscard]] inline Address gateway_in(const Prefix& pod_cidr) {
  return Address::from_v4(pod_cidr.address().v4() + 1);
}

struct Endpoint {
  std::uint32_t id = 0;  // 1 … SLUICE_MAX_ENDPOINTS - 1
  std::string ifname;    // host side of the veth
  std::uint32_t ifindex = 0;
  Address ipv4;
  Mac mac;  // of the pod's interface
  // Another CNI plugin adds an ingress qdisc to the link (bandwidth).
  bool shares_ingress = false;
  bool keeps_source = false;  // leaves the cluster under its own address
};

struct ModuleStatus {
  std::string name;  // "entry", "nat", …
  std::uint32_t slot = 0;
  std::uint32_t program_id = 0;
  std::string tag;                 // of the program's instructions, hex
  std::uint32_t instructions = 0;  // translated
  std::vector<std::uint32_t> map_ids;
};

struct LinkStatus {
  std::string name;  // interface
  std::uint32_t ifindex = 0;
  std::uint32_t link_id = 0;  // tcx; 0 for clsact
  std::uint32_t program_id = 0;
};

// Services for the node's own processes.
struct SocketStatus {
  std::string cgroup;   // whose sockets are translated; empty: none
  std::string why_not;  // ... and why
};

// Packets to and from other nodes.
struct TunnelStatus {
  bool direct = false;  // by the modules at the uplink, else by the VXLAN device
  std::string why_not = "the node is not configured yet";
  bool operator==(const TunnelStatus&) const = default;
};

struct MapStatus {
  std::string name;
  std::uint32_t id = 0;
  std::uint32_t max_entries = 0;
};

struct GenerationStatus {
  std::uint32_t number = 0;
  std::uint32_t slot = 0;
  std::uint32_t program_id = 0;
  std::uint32_t epoch = 0;
  std::string reason;  // "NetworkPolicy shop/allow-front changed"
  std::chrono::system_clock::time_point swapped_at;
  std::chrono::nanoseconds build{}, fill{}, load{}, check{}, swap{};  // durations of the transaction's steps
  std::uint32_t check_packets = 0;  // candidate verdicts compared with the evaluator's
  sluice_generation_stats counters{};
  bool live = false;
};

struct ConntrackStatus {
  struct Use {
    std::uint32_t owner = 0;  // see SLUICE_CT_OWNERS
    std::uint64_t entries = 0;
  };
  std::uint64_t entries = 0, max_entries = 0, expired_total = 0;
  std::vector<Use> heaviest;  // owners of the most entries, at most five
};

struct Connection {
  struct End {
    Address address;
    std::uint16_t port = 0;  // ICMP: the identifier
  };
  std::uint8_t proto = 0;  // IANA
  End source;              // the originator, as itself sees it
  End destination;         // what policy sees: the pod that serves a Service
  std::optional<End> service;
  std::optional<std::uint16_t> masquerade_port;
  const char* state = "";  // new, answered, established, closing, closed
  std::uint32_t owner = 0;
  std::chrono::nanoseconds idle{}, expires_in{};  // idle: known to a second
};

struct Connections {
  std::vector<Connection> list;  // no more than were asked for
  std::uint64_t total = 0;
};

struct ConnectionFilter {
  std::optional<Address> address;  // of either end, or of the Service between them
  std::optional<std::uint8_t> proto;
};

// A packet and what the evaluator says about it; the candidate must agree before it goes live.
struct CheckPacket {
  sluice_probe probe{};
  sluice_drop_reason expected = SLUICE_DROP_NONE;
};
using CheckPackets = std::vector<CheckPacket>;

struct Applied {
  bool generation = false;  // false: written in place (pod churn), or nothing to do
  bool changed = false;
  std::uint32_t number = 0;  // live generation after it
  // Addresses of pods for which there was no room: no rule that means pods admits them. All else is in force.
  std::size_t left_out = 0;
};

class Datapath {
 public:
  // Opens what is pinned, or makes and pins it. Replaces modules whose code differs from this build's, one
  // slot at a time. A pinned layout of another size than this build's is an error that says so; nothing is
  // touched then.
  [[nodiscard]] static Result<std::unique_ptr<Datapath>> open(const Options& options);
  virtual ~Datapath() = default;  // everything pinned stays

  [[nodiscard]] virtual Result<void> configure(const NodeConfig& config) = 0;

  // Endpoints found pinned, for adoption: id, ifindex, address, MAC (ifname empty if the interface is gone).
  [[nodiscard]] virtual Result<std::vector<Endpoint>> endpoints() = 0;
  // Maps filled, entry attached and pinned, interface up. The rules come with apply(); until then the
  // endpoint's packets are dropped (POLICY_MISSING), so the caller applies a ruleset that has the endpoint
  // before it answers ADD. On failure everything is undone.
  [[nodiscard]] virtual Result<void> attach(const Endpoint& endpoint, unsigned mtu) = 0;
  // From here on all that the endpoint sends and all that is sent to it is dropped. The entry program stays
  // on the interface, which without it would be one without policy: the caller deletes the interface and then
  // calls interface_gone(). No error if there is no such endpoint.
  [[nodiscard]] virtual Result<void> detach(std::uint32_t id) = 0;
  // Removes what is pinned for an interface that is no more.
  [[nodiscard]] virtual Result<void> interface_gone(std::uint32_t ifindex) = 0;
  // Puts back what somebody has taken from an interface or replaced by another program, and logs it as an
  // error: without its program a pod's packets reach the node's stack unjudged.
  [[nodiscard]] virtual Result<void> restore_programs() = 0;
  // Pods' links that are attached by clsact and are to be moved to tcx, for which packets cost less; none but
  // in mode kAuto. A move is begun on any thread, because it waits for a grace period, and finished here:
  // until then the link is as it was, and it is again if the descriptor is closed without that. Meanwhile
  // nobody else can change an interface: to be done when nobody wants to.
  // Puts back what somebody took from what configure() and attach() made on the node: interfaces, addresses,
  // routes, rules. Tells what it found, and what could not be put back.
  struct PutBack {
    std::vector<std::string> found;
    std::string problem;  // "": none
  };
  [[nodiscard]] virtual PutBack put_back() = 0;
  [[nodiscard]] virtual std::vector<std::uint32_t> links_to_move() = 0;
  [[nodiscard]] virtual Result<void> finish_move(std::uint32_t ifindex, const Fd& link) = 0;
  // Which links have a queueing discipline (another CNI plugin's, an administrator's): packets to their pods
  // go through it from here on. To be called after any has changed.
  [[nodiscard]] virtual Result<void> refresh_queues() = 0;
  // Whether packets to other nodes may go past the node's stack. To be called after its IPsec policies or
  // routes have changed.
  [[nodiscard]] virtual Result<void> refresh_tunnel() = 0;
  [[nodiscard]] virtual TunnelStatus tunnel() const = 0;
  // podCIDRs of other nodes as the programs know them, and the node's address that packets go to. A daemon
  // that starts finds what the one before it configured.
  [[nodiscard]] virtual Result<std::vector<std::pair<Prefix, Address>>> remote_ranges() = 0;
  // The endpoints that leave the cluster under their own address, of all there are. For new connections.
  [[nodiscard]] virtual Result<void> set_keeps_source(const std::set<std::uint32_t>& ids) = 0;
  // What CHECK asks: interface, map entries, attached program's id all as they should be; the error says
  // which is not.
  [[nodiscard]] virtual Result<void> verify(const Endpoint& endpoint) = 0;

  // First numbers for a new compiler: above all that is in the maps now.
  struct Numbers {
    std::uint32_t table = 1, port_table = 1, peer_class = 1;
  };
  [[nodiscard]] virtual Result<Numbers> first_numbers() = 0;

  // Makes the ruleset live: in place when no endpoint that was there before admits anything else by its own
  // tables, else by a new generation (build, fill, load, check, one slot write, publish). After a restart the
  // first call always makes a generation. On failure the old one stays in force. `check` is called once when
  // a generation is made.
  [[nodiscard]] virtual Result<Applied> apply(std::shared_ptr<const policy::Ruleset> ruleset,
                                              const std::string& reason,
                                              const std::function<CheckPackets()>& check) = 0;
  // Makes the table of Services live: writes what differs, a frontend at a time. A connection that exists
  // keeps its backend. What is for an address of the `ranges` and for none of these Services leads nowhere.
  [[nodiscard]] virtual Result<void> apply_services(const service::Table& table,
                                                    const std::vector<Prefix>& ranges) = 0;
  // Frees rows and entries that no generation uses. Called every few seconds.
  virtual void collect() = 0;
  // Differences between kernel maps and what was applied last, in words; empty: equal. For tests and
  // `sluicectl status`.
  [[nodiscard]] virtual Result<std::vector<std::string>> audit() = 0;

  // Thread-safe from here on.
  [[nodiscard]] virtual Result<Fd> begin_move(std::uint32_t ifindex) const = 0;  // ENODEV: it is gone
  virtual void collect_connections() = 0;  // those that expired; one thread at a time, every few seconds
  [[nodiscard]] virtual Result<sluice_stats> stats() const = 0;                 // summed over CPUs
  [[nodiscard]] virtual std::vector<GenerationStatus> generations() const = 0;  // newest first, at most 16
  [[nodiscard]] virtual Result<std::vector<ModuleStatus>> modules() const = 0;
  [[nodiscard]] virtual Result<std::vector<LinkStatus>> links() const = 0;
  [[nodiscard]] virtual SocketStatus sockets() const = 0;
  [[nodiscard]] virtual Result<std::vector<MapStatus>> maps() const = 0;
  [[nodiscard]] virtual ConntrackStatus conntrack() const = 0;
  // Connections to Services, by address and backend, as of the last collect_connections().
  using Served = std::map<std::pair<service::Frontend, service::Backend>, std::uint64_t>;
  [[nodiscard]] virtual Served served_connections() const = 0;
  [[nodiscard]] virtual Result<Connections> connections(const ConnectionFilter& filter,
                                                        std::size_t most) const = 0;
  // Conntrack forgets them; how many. The next packet of each, of whichever side, is judged as one that opens
  // a connection.
  [[nodiscard]] virtual Result<std::uint64_t> flush_connections(const ConnectionFilter& filter) = 0;
  // Events of the kinds in `flags` (enum sluice_monitor_flags) go to `sink` from a thread of the datapath
  // while the returned handle lives.
  [[nodiscard]] virtual Result<std::shared_ptr<void>> monitor(
      std::uint32_t flags, std::function<void(const sluice_event&)> sink) = 0;
};

// Names for output: "pod", "host", …; "POLICY_EGRESS"; "nat", ….
[[nodiscard]] const char* hook_name(std::uint32_t hook);
[[nodiscard]] const char* drop_reason_name(std::uint32_t reason);
[[nodiscard]] const char* drop_reason_text(std::uint32_t reason);
[[nodiscard]] const char* module_name(std::uint32_t module);

}  // namespace sluice::datapath
