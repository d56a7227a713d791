// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/claims.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <tuple>
#include <utility>

#include "daemon/service/maglev.h"

namespace sluice::service {

namespace {

const char* name_of(Origin origin) {
  switch (origin) {
    case Origin::kClusterIp:
      return "cluster IP";
    case Origin::kNodePort:
      return "nodePort at";
    case Origin::kHostPort:
      return "hostPort at";
    case Origin::kLoadBalancerIp:
      return "load balancer address";
    case Origin::kExternalIp:
      return "external IP";
  }
  return "";
}

// Takes what may be claimed, and counts what may not: one sentence for many ports or addresses.
class Collector {
 public:
  explicit Collector(const NodeView& node) : node_(node) {}
  // Of the Service with that key.
  Collector(const NodeView& node, const ClusterIps& cluster_ips, std::string key)
      : node_(node), cluster_ips_(&cluster_ips), key_(std::move(key)) {}

  void add(Claim claim) {
    auto why = refusal(claim.origin, claim.frontend, node_);
    if (!why && cluster_ips_ != nullptr &&
        (claim.origin == Origin::kLoadBalancerIp || claim.origin == Origin::kExternalIp))
      if (const auto* owner = cluster_ips_->another_owner(claim.frontend.address, key_))
        why = "it is the cluster IP of Service " + *owner;
    if (!why) {
      claims_.push_back(std::move(claim));
      return;
    }
    const auto [found, added] = refused_.try_emplace({claim.origin, *why}, claim.frontend, 0);
    if (!added) ++found->second.second;
  }
  [[nodiscard]] Claims take() {
    Claims all;
    for (const auto& [what, refused] : refused_) {
      const auto& [first, more] = refused;
      const auto address = first.address.to_string();
      all.refused.push_back(fmt::format("{} {} port {}/{}{} is not served: {}", name_of(what.first), address,
                                        first.port, model::to_string(first.protocol),
                                        more == 0 ? "" : fmt::format(" (and {} more)", more), what.second));
    }
    std::ranges::stable_sort(claims_, {},
                             [](const Claim& claim) { return std::tie(claim.frontend, claim.origin); });
    const auto repeated = std::ranges::unique(claims_, {}, &Claim::frontend);
    claims_.erase(repeated.begin(), repeated.end());
    all.list = std::move(claims_);
    return all;
  }

 private:
  const NodeView& node_;
  const ClusterIps* cluster_ips_ = nullptr;
  std::string key_;
  std::vector<Claim> claims_;
  std::map<std::pair<Origin, std::string>, std::pair<Frontend, std::size_t>> refused_;
};

std::vector<Backend> besides(const std::vector<Backend>& serving, const Pool& one, const Pool& other) {
  std::vector<Backend> rest;
  std::ranges::copy_if(serving, std::back_inserter(rest), [&](const Backend& backend) {
    return !std::ranges::binary_search(one.backends, backend) &&
           !std::ranges::binary_search(other.backends, backend);
  });
  return rest;
}

// The claims of one Service in one family.
class FamilyClaims {
 public:
  FamilyClaims(const model::Service& service, Family family, Collector& claims)
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
    target.retained = besides(usable.serving, *target.internal, *target.external);
    claim(Origin::kClusterIp, service_.cluster_ips, port, std::make_shared<const Target>(target));

    if (!exposed) return;
    // Here pods and the node are under neither policy, as if they had gone out to the load balancer and back.
    target.internal = cluster;
    target.internal_elsewhere = false;
    target.external = service_.external_local ? local : cluster;
    target.external_elsewhere = elsewhere(service_.external_local);
    target.retained = besides(usable.serving, *target.internal, *target.external);
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
      if (family_of(address) == family_) claims_.add({{address, port.protocol, port.port}, origin, target});
    }
  }

  const model::Service& service_;
  Family family_;
  Collector& claims_;
  std::vector<Prefix> source_ranges_;
};

bool has_family(const model::Service& service, Family family) {
  // As kube-proxy: no cluster IP of a family, no frontends of it either.
  return std::ranges::any_of(service.cluster_ips,
                             [&](const Address& address) { return family_of(address) == family; });
}

}  // namespace

std::size_t frontends_of(const model::Service& service, const NodeView& node) {
  if (service.left_alone) return 0;
  const auto node_ports = static_cast<std::size_t>(
      std::ranges::count_if(service.ports, [](const auto& port) { return port.node_port != 0; }));
  std::size_t frontends = 0;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    if (!has_family(service, family)) continue;
    const auto of = [&](const std::vector<Address>& addresses) {
      return static_cast<std::size_t>(std::ranges::count(addresses, family, family_of));
    };
    frontends += service.ports.size() *
                     (of(service.cluster_ips) + of(service.external_ips) + of(service.load_balancer_ips)) +
                 node_ports * of(node.addresses);
  }
  return frontends;
}

std::optional<std::string> too_large(const model::Service& service, const Slices& slices,
                                     const NodeView& node) {
  const auto frontends = frontends_of(service, node);
  if (frontends > kMostFrontendsOfService)
    return fmt::format(
        "it is not served: its ports and addresses make {} frontends, and a Service may have {}; split it",
        frontends, kMostFrontendsOfService);
  std::size_t endpoints = 0;
  std::size_t offered = 1;  // ports by which one port of the Service may be served
  for (const auto& slice : slices) {
    endpoints += slice->endpoints.size();
    offered = std::max(offered, slice->ports.size());
  }
  const auto ports = frontends == 0 ? 0 : std::min(service.ports.size(), offered);
  const auto slots = ports * maglev_size(std::min(endpoints, kMaxBackends));
  if (slots > kMostSlotsOfService)
    return fmt::format(
        "it is not served: its ports and endpoints make {} slots of backends, and a Service may have {}; "
        "split it",
        slots, kMostSlotsOfService);
  return std::nullopt;
}

Claims claims_of(const model::Service& service, const Slices& slices, const NodeView& node,
                 const ClusterIps& cluster_ips, Pools& pools) {
  Collector claims(node, cluster_ips, service.ns + "/" + service.name);
  if (service.left_alone) return claims.take();
  if (auto why = too_large(service, slices, node)) return {{}, {std::move(*why)}};
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    if (!has_family(service, family)) continue;
    FamilyClaims of_family(service, family, claims);
    for (const auto& port : service.ports) of_family.add(port, slices, node, pools);
  }
  return claims.take();
}

std::size_t frontends_of(const HostPorts& host_ports, const NodeView& node) {
  const auto family = family_of(host_ports.address);
  const auto on_node = static_cast<std::size_t>(
      std::ranges::count(node.addresses, family, [](const Address& address) { return family_of(address); }));
  std::size_t frontends = 0;
  for (const auto& port : host_ports.ports) frontends += port.on_every_address() ? on_node : 1;
  return frontends;
}

Claims claims_of(const HostPorts& host_ports, const NodeView& node, Pools& pools) {
  if (const auto frontends = frontends_of(host_ports, node); frontends > kMostFrontendsOfPod)
    return {
        {},
        {fmt::format("none is served: they make {} frontends with the node's addresses, and a pod may have "
                     "{}",
                     frontends, kMostFrontendsOfPod)}};
  Collector claims(node);
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
        claims.add({{address, protocol, port.host_port}, Origin::kHostPort, shared});
  }
  return claims.take();
}

std::optional<HealthCheck> health_check_of(const model::Service& service, const Slices& slices,
                                           const NodeView& node) {
  if (service.left_alone || !service.external_local || service.health_check_node_port == 0)
    return std::nullopt;
  return HealthCheck{service.ns, service.name, ready_endpoints_here(slices, node)};
}

}  // namespace sluice::service
