// SPDX-License-Identifier: Apache-2.0
#include "cni/pod_network.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "cni/daemon.h"
#include "common/fault_point.h"
#include "common/host_link.h"
#include "daemon/server/api.h"

namespace sluice::cni {

namespace {

constexpr unsigned kMinMtu = 68, kMaxMtu = 65535;

Prefix everything() { return Prefix(Address::from_v4_be(0), SLUICE_V4_PREFIX_BITS); }

Result<PodNetwork> parse(const nlohmann::json& answer) {
  PodNetwork network;
  const auto cidr = text_of(answer, "address");
  const auto prefix = Prefix::parse(cidr);
  if (!prefix || !prefix->is_v4()) return failure("'address' is '{}'", cidr);
  // The prefix has lost the host's part of the address.
  network.address = *Address::parse(cidr.substr(0, cidr.find('/')));
  network.length = prefix->length();
  const auto gateway = Address::parse(text_of(answer, "gateway"));
  if (!gateway || !gateway->is_v4() || !prefix->contains(*gateway))
    return failure("'gateway' is '{}', not an address in {}", text_of(answer, "gateway"),
                   prefix->to_string());
  network.gateway = *gateway;
  const auto mac = Mac::parse(text_of(answer, "mac"));
  const auto host_mac = Mac::parse(text_of(answer, "hostMac"));
  if (!mac) return failure("'mac': {}", mac.error().message);
  if (!host_mac) return failure("'hostMac': {}", host_mac.error().message);
  network.mac = *mac;
  network.host_mac = *host_mac;
  const auto mtu = answer.find("mtu");
  if (mtu == answer.end() || !mtu->is_number_integer() || mtu->get<std::int64_t>() < kMinMtu ||
      mtu->get<std::int64_t>() > kMaxMtu)
    return failure("'mtu' is not a number from {} to {}", kMinMtu, kMaxMtu);
  network.mtu = mtu->get<unsigned>();
  network.host_ifname = text_of(answer, "hostIfname");
  if (!is_host_link_name(network.host_ifname)) return failure("'hostIfname' is '{}'", network.host_ifname);
  return network;
}

}  // namespace

std::string PodNetwork::cidr() const { return fmt::format("{}/{}", address.to_string(), length); }

Outcome<PodNetwork> parse_pod_network(const nlohmann::json& answer) {
  auto network = parse(answer);
  if (network) return *network;
  return fail(server::kCniInternal, "sluiced gave an answer that sluice-cni cannot use",
              network.error().message + "; sluice-cni and sluiced may be of different versions");
}

Result<bool> configure(NetlinkSocket& pod, const std::string& ifname, const PodNetwork& network,
                       const std::optional<RateLimit>& egress) {
  LinkChange up;
  up.up = true;
  if (auto done = pod.change_link(kLoopbackIndex, up); !done)
    return with_context(done.error(), "bring lo up");
  SLUICE_FAULT_POINT("cni.pod.loopback_up");
  const auto link = pod.link(ifname);
  if (!link) return tl::unexpected(link.error());

  LinkChange identity;
  identity.mac = network.mac;
  identity.mtu = network.mtu;
  identity.ipv6_addresses = false;  // the daemon has given it no IPv6 address
  if (auto done = pod.change_link(link->index, identity); !done) return with_context(done.error(), ifname);
  SLUICE_FAULT_POINT("cni.pod.identity_set");
  if (egress) {
    if (auto done = pod.limit_rate(link->index, *egress); !done) return with_context(done.error(), ifname);
    SLUICE_FAULT_POINT("cni.pod.limit_set");
  }
  if (auto done = pod.add_address({link->index, network.address, network.length}); !done)
    return with_context(done.error(), ifname);
  SLUICE_FAULT_POINT("cni.pod.address_added");
  if (auto done = pod.change_link(link->index, up); !done) return with_context(done.error(), ifname);
  SLUICE_FAULT_POINT("cni.pod.link_up");

  const auto routes = pod.routes();
  if (!routes) return tl::unexpected(routes.error());
  if (std::any_of(routes->begin(), routes->end(), [&](const Route& each) {
        return each.destination == everything() && each.link_index != link->index;
      }))
    return false;
  Route route;
  route.destination = everything();
  route.gateway = network.gateway;
  route.link_index = link->index;
  route.protocol = kSluiceRouteProtocol;
  if (auto done = pod.replace_route(route); !done) return tl::unexpected(done.error());
  SLUICE_FAULT_POINT("cni.pod.route_added");
  return true;
}

Result<void> verify(NetlinkSocket& pod, const std::string& ifname, const PodNetwork& network,
                    bool with_route) {
  const auto link = pod.link(ifname);
  if (!link) return tl::unexpected(link.error());
  if (!link->up) return failure("{} is down", ifname);
  if (link->mac != network.mac)
    return failure("{} has the MAC address {} instead of {}: sluice drops what it sends", ifname,
                   link->mac.to_string(), network.mac.to_string());
  // Less is another plugin's right ("tuning"); more makes packets that do not fit the tunnel.
  if (link->mtu > network.mtu)
    return failure("{} has an MTU of {}, above the network's {}", ifname, link->mtu, network.mtu);

  const auto addresses = pod.addresses();
  if (!addresses) return tl::unexpected(addresses.error());
  if (std::none_of(addresses->begin(), addresses->end(), [&](const LinkAddress& each) {
        return each.index == link->index && each.address == network.address && each.length == network.length;
      }))
    return failure("{} has lost its address {}", ifname, network.cidr());
  if (!with_route) return {};

  const auto routes = pod.routes();
  if (!routes) return tl::unexpected(routes.error());
  if (std::none_of(routes->begin(), routes->end(), [&](const Route& each) {
        return each.destination == everything() && each.gateway == network.gateway &&
               each.link_index == link->index;
      }))
    return failure("the default route through {} on {} is missing", network.gateway.to_string(), ifname);
  return {};
}

Result<void> delete_if_there(NetlinkSocket& host, const std::string& ifname) {
  auto done = host.delete_link(ifname);
  if (!done && done.error().code == ENODEV) return {};
  return done;
}

}  // namespace sluice::cni
