// SPDX-License-Identifier: Apache-2.0
#include "common/netlink.h"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <net/if_arp.h>

#include <cerrno>
#include <cstring>

#include "common/netlink_request.h"

namespace sluice {

namespace {

using netlink::collect;
using netlink::exchange;
using netlink::failure_nl;
using netlink::Request;

Address address_of(const nlattr* attribute) {
  Address address;
  if (attribute == nullptr) return address;
  if (nla_len(attribute) == 4) {
    std::uint32_t v4_be = 0;
    std::memcpy(&v4_be, nla_data(attribute), sizeof v4_be);
    return Address::from_v4_be(v4_be);
  }
  if (nla_len(attribute) == 16) std::memcpy(address.bytes().data(), nla_data(attribute), 16);
  return address;
}

std::uint32_t u32_of(const nlattr* attribute) {
  return attribute != nullptr && nla_len(attribute) >= 4 ? nla_get_u32(attribute) : 0;
}

unsigned char family_of(const Address& address) {
  return static_cast<unsigned char>(address.is_v4() ? AF_INET : AF_INET6);
}

// Of an interface's IPv4 settings, which the kernel tells as an array that begins with number 1.
std::uint32_t ipv4_setting(nlattr* families, unsigned number) {
  if (families == nullptr) return 0;
  auto* inet = nla_find(static_cast<nlattr*>(nla_data(families)), nla_len(families), AF_INET);
  if (inet == nullptr) return 0;
  auto* settings = nla_find(static_cast<nlattr*>(nla_data(inet)), nla_len(inet), IFLA_INET_CONF);
  if (settings == nullptr || nla_len(settings) < static_cast<int>(number * sizeof(std::uint32_t))) return 0;
  std::uint32_t value = 0;
  const char* first = static_cast<const char*>(nla_data(settings));
  std::memcpy(&value, first + (number - 1) * sizeof value, sizeof value);
  return value;
}

std::optional<Link> parse_link(nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWLINK) return std::nullopt;
  nlattr* attributes[IFLA_MAX + 1] = {};
  if (nlmsg_parse(header, sizeof(ifinfomsg), attributes, IFLA_MAX, nullptr) < 0) return std::nullopt;
  const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
  Link link;
  link.index = info->ifi_index;
  link.up = (info->ifi_flags & IFF_UP) != 0;
  link.arp = (info->ifi_flags & IFF_NOARP) == 0;
  link.ethernet = info->ifi_type == ARPHRD_ETHER;
  link.bare = info->ifi_type == ARPHRD_NONE || info->ifi_type == ARPHRD_PPP || info->ifi_type == ARPHRD_RAWIP;
  link.ipv4_forwarding = ipv4_setting(attributes[IFLA_AF_SPEC], IPV4_DEVCONF_FORWARDING) != 0;
  link.mtu = u32_of(attributes[IFLA_MTU]);
  link.peer_index = static_cast<int>(u32_of(attributes[IFLA_LINK]));
  if (attributes[IFLA_IFNAME] != nullptr) link.name = nla_get_string(attributes[IFLA_IFNAME]);
  if (attributes[IFLA_IFALIAS] != nullptr) link.alias = nla_get_string(attributes[IFLA_IFALIAS]);
  if (attributes[IFLA_QDISC] != nullptr) link.qdisc = nla_get_string(attributes[IFLA_QDISC]);
  if (const nlattr* mac = attributes[IFLA_ADDRESS]; mac != nullptr && nla_len(mac) == 6) {
    std::array<std::uint8_t, 6> bytes{};
    std::memcpy(bytes.data(), nla_data(mac), bytes.size());
    link.mac = Mac(bytes);
  }
  nlattr* info_attributes[IFLA_INFO_MAX + 1] = {};
  if (attributes[IFLA_LINKINFO] == nullptr ||
      nla_parse_nested(info_attributes, IFLA_INFO_MAX, attributes[IFLA_LINKINFO], nullptr) < 0)
    return link;
  if (info_attributes[IFLA_INFO_KIND] != nullptr) link.kind = nla_get_string(info_attributes[IFLA_INFO_KIND]);
  nlattr* vxlan[IFLA_VXLAN_MAX + 1] = {};
  if (link.kind == "vxlan" && info_attributes[IFLA_INFO_DATA] != nullptr &&
      nla_parse_nested(vxlan, IFLA_VXLAN_MAX, info_attributes[IFLA_INFO_DATA], nullptr) == 0 &&
      vxlan[IFLA_VXLAN_PORT] != nullptr)
    link.vxlan_port = ntohs(nla_get_u16(vxlan[IFLA_VXLAN_PORT]));
  if (const nlattr* range = vxlan[IFLA_VXLAN_PORT_RANGE]) {
    const auto* ports = static_cast<const ifla_vxlan_port_range*>(nla_data(range));
    link.vxlan_source_ports = {ntohs(ports->low), ntohs(ports->high)};
  }
  return link;
}

std::optional<LinkAddress> parse_address(nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWADDR) return std::nullopt;
  nlattr* attributes[IFA_MAX + 1] = {};
  if (nlmsg_parse(header, sizeof(ifaddrmsg), attributes, IFA_MAX, nullptr) < 0) return std::nullopt;
  const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(header));
  // On a point-to-point link IFA_ADDRESS is the other end; ours is IFA_LOCAL where there is one.
  const nlattr* own = attributes[IFA_LOCAL] != nullptr ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
  return LinkAddress{static_cast<int>(info->ifa_index), address_of(own), info->ifa_prefixlen};
}

void add_next_hops(const nlattr& attribute, Route& route) {
  const auto* hop = static_cast<const rtnexthop*>(nla_data(&attribute));
  for (int left = nla_len(&attribute); RTNH_OK(hop, left);) {
    const auto* nested = reinterpret_cast<const nlattr*>(RTNH_DATA(hop));
    const int length = hop->rtnh_len - static_cast<int>(RTNH_LENGTH(0));
    route.links.push_back(hop->rtnh_ifindex);
    route.by_gateway |=
        nla_find(nested, length, RTA_GATEWAY) != nullptr || nla_find(nested, length, RTA_VIA) != nullptr;
    left -= static_cast<int>(RTNH_ALIGN(hop->rtnh_len));
    hop = RTNH_NEXT(hop);
  }
}

std::optional<Route> parse_route(nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWROUTE) return std::nullopt;
  nlattr* attributes[RTA_MAX + 1] = {};
  if (nlmsg_parse(header, sizeof(rtmsg), attributes, RTA_MAX, nullptr) < 0) return std::nullopt;
  const auto* info = static_cast<const rtmsg*>(nlmsg_data(header));
  const std::uint32_t table =
      attributes[RTA_TABLE] != nullptr ? u32_of(attributes[RTA_TABLE]) : info->rtm_table;
  const bool unreachable = info->rtm_type == RTN_UNREACHABLE;
  if (info->rtm_family != AF_INET || (info->rtm_type != RTN_UNICAST && !unreachable)) return std::nullopt;
  Route route;
  route.unreachable = unreachable;
  route.table = table;
  const Address any = Address::from_v4_be(0);
  const Address address = attributes[RTA_DST] != nullptr ? address_of(attributes[RTA_DST]) : any;
  route.destination = Prefix(address, SLUICE_V4_PREFIX_BITS + info->rtm_dst_len);
  if (attributes[RTA_GATEWAY] != nullptr) route.gateway = address_of(attributes[RTA_GATEWAY]);
  if (attributes[RTA_PREFSRC] != nullptr) route.source = address_of(attributes[RTA_PREFSRC]);
  route.link_index = static_cast<int>(u32_of(attributes[RTA_OIF]));
  if (route.link_index != 0) route.links.push_back(route.link_index);
  route.by_gateway = route.gateway.has_value() || attributes[RTA_VIA] != nullptr;
  if (attributes[RTA_MULTIPATH] != nullptr) add_next_hops(*attributes[RTA_MULTIPATH], route);
  route.protocol = info->rtm_protocol;
  if (const nlattr* metrics = attributes[RTA_METRICS])
    route.mtu = u32_of(nla_find(static_cast<const nlattr*>(nla_data(metrics)), nla_len(metrics), RTAX_MTU));
  return route;
}

ifinfomsg link_header(int index) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = index;
  return header;
}

Result<void> check_name(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ)
    return failure("'{}' is no interface name: 1 to {} characters are allowed", name, IFNAMSIZ - 1);
  return {};
}

Request address_request(int type, int flags, const LinkAddress& address) {
  Request request(type, flags | NLM_F_ACK);
  ifaddrmsg header{};
  header.ifa_family = family_of(address.address);
  header.ifa_prefixlen = static_cast<unsigned char>(address.length);
  header.ifa_index = static_cast<unsigned>(address.index);
  request.header(header);
  request.put(IFA_LOCAL, address.address);
  request.put(IFA_ADDRESS, address.address);
  return request;
}

Request route_request(int type, int flags, const Route& route) {
  Request request(type, flags | NLM_F_ACK);
  rtmsg header{};
  header.rtm_family = static_cast<unsigned char>(route.destination.is_v4() ? AF_INET : AF_INET6);
  header.rtm_dst_len = static_cast<unsigned char>(route.destination.length());
  header.rtm_table = RT_TABLE_UNSPEC;  // RTA_TABLE has room for all of them
  header.rtm_protocol = route.protocol;
  // To the kernel, "nowhere" in a deletion means whichever scope the route has.
  header.rtm_scope = type == RTM_DELROUTE                 ? RT_SCOPE_NOWHERE
                     : route.gateway || route.unreachable ? RT_SCOPE_UNIVERSE
                                                          : RT_SCOPE_LINK;
  header.rtm_type = route.unreachable ? RTN_UNREACHABLE : RTN_UNICAST;
  request.header(header);
  request.put(RTA_TABLE, route.table);
  if (header.rtm_dst_len != 0) request.put(RTA_DST, route.destination.address());
  if (route.gateway) request.put(RTA_GATEWAY, *route.gateway);
  if (route.source) request.put(RTA_PREFSRC, *route.source);
  if (route.link_index != 0) request.put(RTA_OIF, static_cast<std::uint32_t>(route.link_index));
  if (route.mtu != 0)
    request.nest(RTA_METRICS, [&] { request.put(RTAX_MTU, static_cast<std::uint32_t>(route.mtu)); });
  return request;
}

Request rule_request(int type, int flags, const Rule& rule) {
  Request request(type, flags | NLM_F_ACK);
  fib_rule_hdr header{};
  header.family = AF_INET;
  header.action = FR_ACT_TO_TBL;
  if (rule.others) header.flags = FIB_RULE_INVERT;
  request.header(header);
  request.put(FRA_PRIORITY, rule.priority);
  request.put(FRA_TABLE, rule.table);
  request.put(FRA_IIFNAME, rule.interface);
  request.put(FRA_PROTOCOL, kSluiceRouteProtocol);
  return request;
}

std::optional<Rule> parse_rule(nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWRULE) return std::nullopt;
  nlattr* attributes[FRA_MAX + 1] = {};
  if (nlmsg_parse(header, sizeof(fib_rule_hdr), attributes, FRA_MAX, nullptr) < 0) return std::nullopt;
  const nlattr* protocol = attributes[FRA_PROTOCOL];
  const nlattr* interface = attributes[FRA_IIFNAME];
  if (protocol == nullptr || nla_get_u8(protocol) != kSluiceRouteProtocol || interface == nullptr)
    return std::nullopt;
  const auto* info = static_cast<const fib_rule_hdr*>(nlmsg_data(header));
  return Rule{u32_of(attributes[FRA_PRIORITY]), u32_of(attributes[FRA_TABLE]), nla_get_string(interface),
              (info->flags & FIB_RULE_INVERT) != 0};
}

}  // namespace

void NetlinkSocket::Closer::operator()(nl_sock* socket) const { nl_socket_free(socket); }
NetlinkSocket::NetlinkSocket(NetlinkSocket&&) noexcept = default;
NetlinkSocket& NetlinkSocket::operator=(NetlinkSocket&&) noexcept = default;
NetlinkSocket::~NetlinkSocket() = default;

Result<NetlinkSocket> NetlinkSocket::make() {
  NetlinkSocket made(nl_socket_alloc());
  if (!made.socket_) return failure_errno(ENOMEM, "netlink socket");
  nl_socket_disable_auto_ack(made.socket_.get());  // asked for where it is the only answer
  if (const int code = nl_connect(made.socket_.get(), NETLINK_ROUTE); code < 0)
    return failure_nl(code, "open a netlink socket");
  const int on = 1;
  for (const int option : {NETLINK_CAP_ACK, NETLINK_EXT_ACK}) {
    if (setsockopt(nl_socket_get_fd(made.socket_.get()), SOL_NETLINK, option, &on, sizeof on) != 0)
      return failure_errno(errno, "set up a netlink socket");
  }
  return made;
}

Result<void> NetlinkSocket::add_veth(const std::string& name, const std::string& peer_name,
                                     int peer_netns_fd) {
  for (const auto& each : {name, peer_name})
    if (auto good = check_name(each); !good) return good;
  Request request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  request.header(link_header(0));
  request.put(IFLA_IFNAME, name);
  request.nest(IFLA_LINKINFO, [&] {
    request.put(IFLA_INFO_KIND, std::string("veth"));
    request.nest(IFLA_INFO_DATA, [&] {
      request.nest(VETH_INFO_PEER, [&] {
        request.header(link_header(0));
        request.put(IFLA_IFNAME, peer_name);
        if (peer_netns_fd >= 0) request.put(IFLA_NET_NS_FD, static_cast<std::uint32_t>(peer_netns_fd));
      });
    });
  });
  return exchange(socket_.get(), request, fmt::format("create the veth pair {} and {}", name, peer_name));
}

Result<void> NetlinkSocket::add_vxlan_external(const std::string& name, std::uint16_t port,
                                               PortRange source_ports) {
  const ifla_vxlan_port_range range{htons(source_ports.first), htons(source_ports.last)};
  if (auto good = check_name(name); !good) return good;
  Request request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  request.header(link_header(0));
  request.put(IFLA_IFNAME, name);
  request.nest(IFLA_LINKINFO, [&] {
    request.put(IFLA_INFO_KIND, std::string("vxlan"));
    request.nest(IFLA_INFO_DATA, [&] {
      request.put(IFLA_VXLAN_COLLECT_METADATA, std::uint8_t{1});
      request.put(IFLA_VXLAN_LEARNING, std::uint8_t{0});
      request.put(IFLA_VXLAN_PORT, htons(port));
      request.put(IFLA_VXLAN_PORT_RANGE, {reinterpret_cast<const std::uint8_t*>(&range), sizeof range});
    });
  });
  return exchange(socket_.get(), request, fmt::format("create the VXLAN device {}", name));
}

Result<void> NetlinkSocket::delete_link(const std::string& name) {
  if (auto good = check_name(name); !good) return good;
  Request request(RTM_DELLINK, NLM_F_ACK);
  request.header(link_header(0));
  request.put(IFLA_IFNAME, name);
  return exchange(socket_.get(), request, fmt::format("delete interface {}", name));
}

Result<void> NetlinkSocket::delete_link(int index) {
  Request request(RTM_DELLINK, NLM_F_ACK);
  request.header(link_header(index));
  return exchange(socket_.get(), request, fmt::format("delete interface number {}", index));
}

Result<Link> NetlinkSocket::link(const std::string& name) {
  if (auto good = check_name(name); !good) return tl::unexpected(good.error());
  Request request(RTM_GETLINK, 0);
  request.header(link_header(0));
  request.put(IFLA_IFNAME, name);
  const auto what = fmt::format("interface {}", name);
  auto found = collect<Link>(socket_.get(), request, parse_link, what);
  if (!found) return tl::unexpected(found.error());
  if (found->empty()) return failure_errno(ENODEV, what);
  return found->front();
}

Result<Link> NetlinkSocket::link(int index) {
  Request request(RTM_GETLINK, 0);
  request.header(link_header(index));
  const auto what = fmt::format("interface number {}", index);
  auto found = collect<Link>(socket_.get(), request, parse_link, what);
  if (!found) return tl::unexpected(found.error());
  if (found->empty()) return failure_errno(ENODEV, what);
  return found->front();
}

Result<std::vector<Link>> NetlinkSocket::links() {
  Request request(RTM_GETLINK, NLM_F_DUMP);
  request.header(link_header(0));
  return collect<Link>(socket_.get(), request, parse_link, "list the interfaces");
}

Result<void> NetlinkSocket::change_link(int index, const LinkChange& change) {
  const auto what = fmt::format("change interface number {}", index);
  if (change.ipv6_addresses) {
    // A request of its own, and first: it has to be in force before the interface comes up.
    Request request(RTM_SETLINK, NLM_F_ACK);
    request.header(link_header(index));
    const std::uint8_t mode = *change.ipv6_addresses ? IN6_ADDR_GEN_MODE_EUI64 : IN6_ADDR_GEN_MODE_NONE;
    request.nest(IFLA_AF_SPEC,
                 [&] { request.nest(AF_INET6, [&] { request.put(IFLA_INET6_ADDR_GEN_MODE, mode); }); });
    auto done = exchange(socket_.get(), request, what);
    // No IPv6 in this kernel or on this interface (an MTU below 1280): no address either.
    if (!done && done.error().code != EAFNOSUPPORT) return done;
  }
  Request request(RTM_SETLINK, NLM_F_ACK);
  ifinfomsg header = link_header(index);
  const auto flag = [&](unsigned bit, bool on) {
    header.ifi_change |= bit;
    if (on) header.ifi_flags |= bit;
  };
  if (change.up) flag(IFF_UP, *change.up);
  if (change.arp) flag(IFF_NOARP, !*change.arp);
  request.header(header);
  if (change.mac) request.put(IFLA_ADDRESS, change.mac->bytes());
  if (change.mtu) request.put(IFLA_MTU, static_cast<std::uint32_t>(*change.mtu));
  if (change.name) {
    if (auto good = check_name(*change.name); !good) return good;
    request.put(IFLA_IFNAME, *change.name);
  }
  if (change.alias)  // without the terminating zero, which the kernel would count
    request.put(IFLA_IFALIAS,
                {reinterpret_cast<const std::uint8_t*>(change.alias->data()), change.alias->size()});
  if (change.ipv4_forwarding) {
    const std::uint32_t on = *change.ipv4_forwarding ? 1 : 0;
    request.nest(IFLA_AF_SPEC, [&] {
      request.nest(AF_INET,
                   [&] { request.nest(IFLA_INET_CONF, [&] { request.put(IPV4_DEVCONF_FORWARDING, on); }); });
    });
  }
  return exchange(socket_.get(), request, what);
}

Result<void> NetlinkSocket::add_address(const LinkAddress& address) {
  const auto request = address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address);
  auto done = exchange(socket_.get(), request,
                       fmt::format("add address {}/{}", address.address.to_string(), address.length));
  if (!done && done.error().code == EEXIST) return {};
  return done;
}

Result<void> NetlinkSocket::delete_address(const LinkAddress& address) {
  return exchange(socket_.get(), address_request(RTM_DELADDR, 0, address),
                  fmt::format("delete address {}/{}", address.address.to_string(), address.length));
}

Result<std::vector<LinkAddress>> NetlinkSocket::addresses() {
  Request request(RTM_GETADDR, NLM_F_DUMP);
  request.header(ifaddrmsg{});
  return collect<LinkAddress>(socket_.get(), request, parse_address, "list the addresses");
}

Result<void> NetlinkSocket::replace_route(const Route& route) {
  return exchange(socket_.get(), route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route),
                  fmt::format("set the route to {}", route.destination.to_string()));
}

Result<void> NetlinkSocket::delete_route(const Route& route) {
  return exchange(socket_.get(), route_request(RTM_DELROUTE, 0, route),
                  fmt::format("delete the route to {}", route.destination.to_string()));
}

Result<std::vector<Route>> NetlinkSocket::routes(std::uint32_t table) {
  Request request(RTM_GETROUTE, NLM_F_DUMP);
  rtmsg header{};
  header.rtm_family = AF_INET;
  request.header(header);
  const auto parse = [table](nlmsghdr* message) {
    auto route = parse_route(message);
    return route && (table == kAllTables || route->table == table) ? route : std::nullopt;
  };
  return collect<Route>(socket_.get(), request, parse, "list the routes");
}

Result<void> NetlinkSocket::add_rule(const Rule& rule) {
  return exchange(socket_.get(), rule_request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule),
                  fmt::format("add the routing rule {}", rule.priority));
}

Result<void> NetlinkSocket::delete_rule(const Rule& rule) {
  return exchange(socket_.get(), rule_request(RTM_DELRULE, 0, rule),
                  fmt::format("delete the routing rule {}", rule.priority));
}

Result<std::vector<Rule>> NetlinkSocket::rules() {
  Request request(RTM_GETRULE, NLM_F_DUMP);
  fib_rule_hdr header{};
  header.family = AF_INET;
  request.header(header);
  return collect<Rule>(socket_.get(), request, parse_rule, "list the routing rules");
}

}  // namespace sluice
