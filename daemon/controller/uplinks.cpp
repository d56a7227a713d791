// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/uplinks.h"

#include <algorithm>
#include <iterator>
#include <tuple>

#include "common/host_link.h"

namespace sluice::controller {

namespace {

bool is_global(const Address& address) {
  const auto& bytes = address.bytes();
  return address.is_v4() && bytes[12] != 127 && !(bytes[12] == 169 && bytes[13] == 254);
}

bool may_be_uplink(const Link& link) {
  return link.name != kLoopbackDevice && link.kind != "dummy" && !link.name.starts_with("sluice_") &&
         !is_host_link_name(link.name);
}

class Planner {
 public:
  Planner(const Address& internal_ip, const std::string& named, const Surface& surface)
      : internal_ip_(internal_ip), named_(named), surface_(surface) {}

  FoundUplinks plan() {
    std::vector<const Link*> links;
    for (const auto& link : surface_.links)
      if (may_be_uplink(link) &&
          (link.name == named_ || gateway_route(link) != nullptr || !own(link).empty()))
        links.push_back(&link);
    const bool here = has(surface_.addresses, internal_ip_);
    if (!here && named_.empty()) return {};
    no_uplinks_ =
        std::ranges::none_of(links, [&](const Link* link) { return has(own(*link), internal_ip_); });
    routed_here_ = here && no_uplinks_;
    std::ranges::sort(links, {}, [&](const Link* link) {
      return std::tuple(!is_underlay(*link), gateway_route(*link) == nullptr, link->name);
    });
    if (links.size() > SLUICE_MAX_UPLINKS) links.resize(SLUICE_MAX_UPLINKS);
    FoundUplinks found;
    for (const auto* link : links) {
      if (link->ethernet || link->bare)
        found.all.push_back({link->name, static_cast<std::uint32_t>(link->index), source_of(*link), link->mtu,
                             link->ethernet, is_underlay(*link)});
      if (!is_underlay(*link)) continue;
      found.underlay.push_back(link->name);
      found.mtu = found.mtu == 0 ? link->mtu : std::min(found.mtu, link->mtu);
    }
    std::ranges::sort(found.all, {}, &datapath::NodeConfig::Uplink::name);
    return found;
  }

 private:
  static bool has(const std::vector<LinkAddress>& addresses, const Address& address) {
    return std::ranges::find(addresses, address, &LinkAddress::address) != addresses.end();
  }

  std::vector<LinkAddress> own(const Link& link) const {
    std::vector<LinkAddress> found;
    std::ranges::copy_if(surface_.addresses, std::back_inserter(found), [&](const LinkAddress& each) {
      return each.index == link.index && is_global(each.address);
    });
    return found;
  }

  // Of those that lead out by it the one that leads farthest.
  const Route* gateway_route(const Link& link) const {
    const Route* farthest = nullptr;
    for (const auto& route : surface_.routes)
      if (route.by_gateway && std::ranges::find(route.links, link.index) != route.links.end() &&
          (farthest == nullptr || route.destination.length() < farthest->destination.length()))
        farthest = &route;
    return farthest;
  }

  bool is_underlay(const Link& link) const {
    if (!named_.empty()) return link.name == named_;
    return routed_here_ ? gateway_route(link) != nullptr : has(own(link), internal_ip_);
  }

  Address source_of(const Link& link) const {
    const auto addresses = own(link);
    const auto* route = gateway_route(link);
    if (has(addresses, internal_ip_)) return internal_ip_;
    if (route != nullptr && route->source && has(surface_.addresses, *route->source)) return *route->source;
    if ((routed_here_ && route != nullptr) || (no_uplinks_ && link.name == named_)) return internal_ip_;
    for (const auto& each : addresses)
      if (route != nullptr && route->gateway && each.length > 0 &&
          Prefix(each.address, SLUICE_V4_PREFIX_BITS + each.length).contains(*route->gateway))
        return each.address;
    return addresses.empty() ? internal_ip_ : addresses.front().address;
  }

  Address internal_ip_;
  const std::string& named_;
  const Surface& surface_;
  bool no_uplinks_ = false;   // no uplink has the InternalIP ...
  bool routed_here_ = false;  // ... but lo, say
};

}  // namespace

FoundUplinks find_uplinks(const std::optional<Address>& internal_ip, const std::string& named,
                          const Surface& surface) {
  return internal_ip ? Planner(*internal_ip, named, surface).plan() : FoundUplinks();
}

}  // namespace sluice::controller
