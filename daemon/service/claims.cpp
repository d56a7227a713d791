// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/claims.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace sluice::service {

namespace {

// The claims of one Service in one family.
class FamilyClaims {
 public:
  FamilyClaims(const model::Service& service, Family family, std::vector<Claim>& claims)
      : service_(service), family_(family), claims_(claims) {
    // As kube-proxy: ranges of the other family alone do not close this one.
    for (const auto& range : service.source_ranges) {
      if (range.is_v4() == (family == Family::kIpv4)) source_ranges_.push_back(range);
    }
  }

  void add(const model::ServicePort& port, const Slices& slices, const NodeView& node, Pools& pools) {
    Usable usable = usable_endpoints(port, family_, slices, node);
    const bool anybody = !usable.cluster.empty();
    const bool exposed =
        port.node_port != 0 || !service_.external_ips.empty() || !service_.load_balancer_ips.empty();
    std::shared_ptr<const Pool> cluster;
    std::shared_ptr<const Pool> local;
    if (!service_.internal_local || exposed) cluster = pools.of(std::move(usable.cluster));
    if (service_.internal_local || service_.external_local) local = pools.of(std::move(usable.local));
    const auto elsewhere = [&](bool only_local) { return only_local && anybody && local->backends.empty(); };

    Target target;
    target.service = service_.ns + "/" + service_.name + (port.name.empty() ? "" : ":" + port.name);
    target.affinity_seconds = service_.affinity_seconds;
    target.internal = target.external = service_.internal_local ? local : cluster;
    target.internal_elsewhere = elsewhere(service_.internal_local);
    claim(Origin::kClusterIp, service_.cluster_ips, port, std::make_shared<const Target>(target));

    if (!exposed) return;
    // Here pods and the node are under neither policy, as if they had gone out to the load balancer and back.
    target.internal = cluster;
    target.internal_elsewhere = false;
    target.external = service_.external_local ? local : cluster;
    target.external_elsewhere = elsewhere(service_.external_local);
    target.from_outside = true;
    target.masquerade = !service_.external_local;
    const auto open = std::make_shared<const Target>(target);
    claim(Origin::kExternalIp, service_.external_ips, port, open);
    model::ServicePort on_node = port;
    on_node.port = port.node_port;
    target.on_loopback = true;
    if (port.node_port != 0)
      claim(Origin::kNodePort, node.addresses, on_node, std::make_shared<const Target>(target));
    target.on_loopback = false;
    target.source_ranges = source_ranges_;
    claim(Origin::kLoadBalancerIp, service_.load_balancer_ips, port,
          source_ranges_.empty() ? open : std::make_shared<const Target>(target));
  }

 private:
  void claim(Origin origin, const std::vector<Address>& addresses, const model::ServicePort& port,
             const std::shared_ptr<const Target>& target) {
    for (const auto& address : addresses) {
      if (family_of(address) == family_)
        claims_.push_back({{address, port.protocol, port.port}, origin, target});
    }
  }

  const model::Service& service_;
  Family family_;
  std::vector<Claim>& claims_;
  std::vector<Prefix> source_ranges_;
};

std::vector<Claim> each_once(std::vector<Claim> claims) {
  std::ranges::stable_sort(claims, {},
                           [](const Claim& claim) { return std::tie(claim.frontend, claim.origin); });
  const auto repeated = std::ranges::unique(claims, {}, &Claim::frontend);
  claims.erase(repeated.begin(), repeated.end());
  return claims;
}

}  // namespace

std::vector<Claim> claims_of(const model::Service& service, const Slices& slices, const NodeView& node,
                             Pools& pools) {
  std::vector<Claim> claims;
  if (service.left_alone) return claims;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    // As kube-proxy: no cluster IP of a family, no frontends of it either.
    const auto is_of_family = [&](const Address& address) { return family_of(address) == family; };
    if (std::ranges::none_of(service.cluster_ips, is_of_family)) continue;
    FamilyClaims of_family(service, family, claims);
    for (const auto& port : service.ports) of_family.add(port, slices, node, pools);
  }
  return each_once(std::move(claims));
}

std::vector<Claim> claims_of(const HostPorts& host_ports, const NodeView& node, Pools& pools) {
  std::vector<Claim> claims;
  for (const auto& port : host_ports.ports) {
    Target target;
    target.service = "hostPort of " + host_ports.pod;
    target.internal = target.external = pools.of({{host_ports.address, port.container_port}});
    target.from_outside = true;
    target.on_loopback = port.on_every_address();
    const auto shared = std::make_shared<const Target>(std::move(target));
    const auto protocol = static_cast<model::Protocol>(port.protocol);
    for (const auto& address : port.on_every_address() ? node.addresses : std::vector{port.host_ip})
      if (family_of(address) == family_of(host_ports.address))
        claims.push_back({{address, protocol, port.host_port}, Origin::kHostPort, shared});
  }
  return each_once(std::move(claims));
}

std::optional<HealthCheck> health_check_of(const model::Service& service, const Slices& slices,
                                           const NodeView& node) {
  if (service.left_alone || !service.external_local || service.health_check_node_port == 0)
    return std::nullopt;
  return HealthCheck{service.ns, service.name, ready_endpoints_here(slices, node)};
}

}  // namespace sluice::service
