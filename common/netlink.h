// SPDX-License-Identifier: Apache-2.0
// The rtnetlink requests that Sluice makes, over libnl-3. A NetlinkSocket belongs to the network namespace
// that the calling thread was in when it was made. Errors carry the kernel's errno in Error::code.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/address.h"
#include "common/result.h"

struct nl_sock;

namespace sluice {

// Do packets wait in a root queueing discipline of this kind? "noop": the link was never up and has none yet.
inline bool is_queue(const std::string& kind) { return kind != "noqueue" && kind != "noop"; }

struct PortRange {
  std::uint16_t first = 0, last = 0;
  bool operator==(const PortRange&) const = default;
};

struct Link {
  int index = 0;
  std::string name;
  std::string kind;  // "veth", "vxlan", …; empty for physical devices
  std::string alias;
  Mac mac;
  unsigned mtu = 0;
  bool up = false;  // IFF_UP
  bool arp = true;  // not IFF_NOARP
  bool ethernet = false;
  bool bare = false;             // no headers before the network's: WireGuard, tun, PPP, modems
  int peer_index = 0;            // IFLA_LINK: veth peer's ifindex, in its own namespace
  std::string qdisc;             // kind of the root queueing discipline: "noqueue", "tbf", …
  bool ipv4_forwarding = false;  // of this interface
  std::uint16_t vxlan_port = 0;
  PortRange vxlan_source_ports;  // 0 to 0: of ip_local_port_range

  [[nodiscard]] bool queues() const { return !qdisc.empty() && is_queue(qdisc); }
};

// A limit of a link's egress, by a token bucket filter (tc-tbf(8)).
struct RateLimit {
  std::uint64_t bytes_per_s = 0;
  std::uint32_t burst_bytes = 0;
  // What may wait: what is sent in 25 ms, beside a burst.
  [[nodiscard]] std::uint32_t queue_bytes() const;
};

struct Qdisc {  // queueing discipline of a link
  int link_index = 0;
  std::string kind;   // "noqueue", "tbf", …
  bool root = false;  // of the link's egress
  // Of a tbf; the kernel does not tell the burst.
  std::uint64_t bytes_per_s = 0;
  std::uint32_t queue_bytes = 0;

  [[nodiscard]] bool queues() const { return root && is_queue(kind); }
  [[nodiscard]] bool limits_to(const RateLimit& limit) const;
};

struct Filter {  // on a link's clsact qdisc, or the place of several of one priority: handle 0
  bool egress = false;
  std::uint32_t priority = 0;
  std::uint32_t handle = 0;
  std::string program;  // name of a bpf filter, as whoever attached it wrote it
};

struct LinkAddress {
  int index = 0;
  Address address;
  unsigned length = 0;  // prefix length as written (0–32, 0–128)
};

inline constexpr std::uint32_t kMainTable = 254;  // RT_TABLE_MAIN
inline constexpr std::uint32_t kAllTables = 0;    // RT_TABLE_UNSPEC

struct Route {
  Prefix destination;              // 0.0.0.0/0: default
  std::optional<Address> gateway;  // none: on link
  std::optional<Address> source;   // preferred source (RTA_PREFSRC)
  int link_index = 0;              // of several next hops: 0
  std::vector<int> links;          // of all next hops; not of routes that are to be made
  bool by_gateway = false;         // some next hop is a router, of whichever family
  unsigned mtu = 0;                // 0: none
  std::uint8_t protocol = 0;       // RTPROT_*; Sluice's own are kSluiceRouteProtocol
  std::uint32_t table = kMainTable;
  bool unreachable = false;  // leads nowhere: whoever sends there is told so (RTN_UNREACHABLE)
};

// "What comes by this interface looks into the table" (ip-rule(8)), IPv4. What this node itself sends comes
// by lo.
struct Rule {
  std::uint32_t priority = 0;
  std::uint32_t table = 0;
  std::string interface;
  bool others = false;  // what comes by any other interface, instead
  bool operator==(const Rule&) const = default;
};

inline constexpr int kLoopbackIndex = 1;  // in every network namespace
inline constexpr const char* kLoopbackDevice = "lo";

// Marks the routes that Sluice made, so that it changes no other's.
inline constexpr std::uint8_t kSluiceRouteProtocol = 83;

struct LinkChange {  // what to change; unset fields stay
  std::optional<Mac> mac;
  std::optional<unsigned> mtu;
  std::optional<bool> up;
  std::optional<bool> arp;  // false: IFF_NOARP
  std::optional<std::string> name;
  std::optional<std::string> alias;     // at most 255 bytes; empty: none
  std::optional<bool> ipv4_forwarding;  // this interface's, by IFLA_AF_SPEC: needs no writable /proc/sys
  std::optional<bool> ipv6_addresses;   // false: addr_gen_mode none, no link-local address
};

class NetlinkSocket {
 public:
  [[nodiscard]] static Result<NetlinkSocket> make();
  NetlinkSocket(NetlinkSocket&&) noexcept;
  NetlinkSocket& operator=(NetlinkSocket&&) noexcept;
  ~NetlinkSocket();

  // `name` here, its peer `peer_name` in the namespace of `peer_netns_fd` (-1: here too). Both down.
  [[nodiscard]] Result<void> add_veth(const std::string& name, const std::string& peer_name,
                                      int peer_netns_fd);
  // VXLAN (RFC 7348) in external (collect metadata) mode, no learning. `source_ports`: that it sends by.
  [[nodiscard]] Result<void> add_vxlan_external(const std::string& name, std::uint16_t port,
                                                PortRange source_ports);
  [[nodiscard]] Result<void> delete_link(const std::string& name);
  [[nodiscard]] Result<void> delete_link(int index);
  // ENODEV in Error::code when there is none of that name.
  [[nodiscard]] Result<Link> link(const std::string& name);
  [[nodiscard]] Result<Link> link(int index);
  [[nodiscard]] Result<std::vector<Link>> links();
  [[nodiscard]] Result<void> change_link(int index, const LinkChange& change);

  [[nodiscard]] Result<std::vector<Qdisc>> qdiscs();             // of all links
  [[nodiscard]] Result<std::vector<Filter>> filters(int index);  // none where there is no clsact qdisc
  // EEXIST in Error::code when the link has a queueing discipline already.
  [[nodiscard]] Result<void> limit_rate(int index, const RateLimit& limit);

  [[nodiscard]] Result<void> add_address(const LinkAddress& address);  // an existing one is no error
  [[nodiscard]] Result<void> delete_address(const LinkAddress& address);
  [[nodiscard]] Result<std::vector<LinkAddress>> addresses();  // of all links, both families

  [[nodiscard]] Result<void> replace_route(const Route& route);
  [[nodiscard]] Result<void> delete_route(const Route& route);
  [[nodiscard]] Result<std::vector<Route>> routes(std::uint32_t table = kMainTable);  // IPv4

  [[nodiscard]] Result<void> add_rule(const Rule& rule);
  [[nodiscard]] Result<void> delete_rule(const Rule& rule);
  [[nodiscard]] Result<std::vector<Rule>> rules();  // those of this kind that Sluice made

 private:
  struct Closer {
    void operator()(nl_sock* socket) const;
  };
  explicit NetlinkSocket(nl_sock* socket) : socket_(socket) {}
  std::unique_ptr<nl_sock, Closer> socket_;
};

}  // namespace sluice
