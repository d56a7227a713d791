// SPDX-License-Identifier: Apache-2.0
// Services: from what the source tells of them to the datapath's table.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "daemon/controller/controller.h"

namespace sluice::controller {

namespace {

constexpr const char* kZone = "topology.kubernetes.io/zone";
constexpr const char* kApiServer = "default/kubernetes";
constexpr std::chrono::seconds kEphemeralPortsRefresh{5};
constexpr std::chrono::seconds kServicesRetry{1};
constexpr std::chrono::seconds kHealthChecksRetry{5};

}  // namespace

void Controller::compile_services() {
  const auto changed = state_.take_service_changes();
  if (changed.contains(kApiServer)) node_view_dirty_ = true;
  refresh_node_view();
  compile_host_ports();
  for (const auto& key : changed) {
    service::Input input;
    if (const auto known = state_.services().find(key); known != state_.services().end())
      input.service = known->second;
    for (const auto& [name, slice] : state_.slices_of(key)) input.slices.push_back(slice);
    service_compiler_.update(key, std::move(input));
  }
}

// What Services see of the nodes. Not made anew each turn of the loop: there may be thousands of nodes.
void Controller::refresh_node_view() {
  if (Clock::now() >= ephemeral_ports_at_) {
    auto ports = service::ephemeral_ports(local_ports());
    ephemeral_ports_at_ = Clock::now() + kEphemeralPortsRefresh;
    if (ports != ephemeral_ports_) node_view_dirty_ = true;
    ephemeral_ports_ = std::move(ports);
  }
  if (!std::exchange(node_view_dirty_, false)) return;
  service::NodeView view;
  view.name = options_.node_name;
  if (const auto own = state_.nodes().find(options_.node_name); own != state_.nodes().end())
    if (const auto zone = own->second.labels.find(kZone); zone != own->second.labels.end())
      view.zone = zone->second;
  view.around = surroundings();
  if (node_config_) view.addresses = node_config_->node_addresses;
  // kube-proxy's IPVS leaves cluster IPs on an interface: no NodePort is meant by them.
  std::erase_if(view.addresses,
                [&](const Address& address) { return service::is_service_address(view.around, address); });
  service_compiler_.set_node(std::move(view));
}

service::Surroundings Controller::surroundings() const {
  service::Surroundings around;
  around.external_ips = options_.external_ips;
  around.reserved = options_.reserved_ports;
  around.api_servers = options_.api_servers;
  around.service_ranges = state_.service_ranges();
  around.reserved.insert(around.reserved.end(), ephemeral_ports_.begin(), ephemeral_ports_.end());
  around.pod_ranges = ranges_of_pods(state_.nodes(), node_config_);
  for (const auto& [name, node] : state_.nodes()) {
    if (name == options_.node_name) continue;
    around.other_nodes.insert(node.addresses.begin(), node.addresses.end());
    around.other_nodes.insert(node.external_addresses.begin(), node.external_addresses.end());
  }
  for (const auto& [name, slice] : state_.slices_of(kApiServer))
    for (const auto& endpoint : slice->endpoints)
      for (const auto& port : slice->ports)
        if (!endpoint.addresses.empty() && port.port)
          around.api_servers.insert({endpoint.addresses.front(), port.protocol, *port.port});
  return around;
}

void Controller::compile_host_ports() {
  if (std::exchange(host_ports_revision_, ipam_.revision()) == ipam_.revision()) return;
  std::set<std::string> keys;
  for (const auto& [key, attachment] : ipam_.attachments()) {
    if (attachment.host_ports.empty()) continue;
    const auto pod = attachment.pod_name.empty() ? "container " + key.container_id
                                                 : attachment.pod_namespace + "/" + attachment.pod_name;
    service::Input input;
    input.host_ports = service::HostPorts{pod, attachment.ipv4, attachment.host_ports};
    const auto name = fmt::format("hostPort of {} {} {}", pod, key.container_id, key.ifname);
    service_compiler_.update(name, std::move(input));
    keys.insert(name);
  }
  for (const auto& gone : host_port_keys_)
    if (!keys.contains(gone)) service_compiler_.update(gone, {});
  host_port_keys_ = std::move(keys);
}

// Services are no condition for pods and their rules: neither waits for them, nor fails with them.
void Controller::reconcile_services() {
  // Before the first full sync, what the daemon before this one told stays in force.
  if (!state_.services_synced()) return;
  compile_services();
  const auto changes = service_compiler_.take_changes();
  for (const auto& warning : changes.warnings) spdlog::warn("{}", warning);
  if (!changes.set.empty() || !changes.removed.empty()) services_dirty_ = true;
  if (service_ranges_ != state_.service_ranges()) {
    service_ranges_ = state_.service_ranges();
    services_dirty_ = true;
  }
  if (services_dirty_ && Clock::now() >= services_retry_at_) apply_services();
  answer_health_checks();
}

void Controller::apply_services() {
  if (auto done = datapath_->apply_services(service_compiler_.table(), service_ranges_); !done) {
    services_retry_at_ = Clock::now() + kServicesRetry;
    if (services_problem_ != done.error().message)
      spdlog::error(
          "not all Services applied: {}; what was in force before stays so for those concerned, tried again "
          "every {} s",
          done.error().message, kServicesRetry.count());
    services_problem_ = done.error().message;
    return;
  }
  services_problem_.clear();
  services_dirty_ = false;
}

void Controller::answer_health_checks() {
  health_checks_.set_healthy(!services_dirty_);
  auto wanted = service_compiler_.health_checks();
  const bool again = !health_checks_problem_.empty() && Clock::now() >= health_checks_retry_at_;
  if (wanted == health_checks_set_ && !again) return;
  health_checks_set_ = std::move(wanted);
  const auto problem = fmt::format("{}", fmt::join(health_checks_.set(health_checks_set_), "; "));
  health_checks_retry_at_ = Clock::now() + kHealthChecksRetry;
  if (problem != health_checks_problem_ && !problem.empty())
    spdlog::warn("{}; next try in {} s", problem, kHealthChecksRetry.count());
  health_checks_problem_ = problem;
}

server::Answer Controller::services() {
  return on_thread([this]() -> server::Answer {
    using nlohmann::json;
    const std::lock_guard lock(mutex_);  // for service_connections_
    const auto backends = [this](const std::string& service, const service::Pool& pool) {
      auto list = json::array();
      for (const auto& backend : pool.backends) {
        const auto found = service_connections_.find({service, backend});
        list.push_back({{"address", backend.address.to_string()},
                        {"port", backend.port},
                        {"connections", found == service_connections_.end() ? 0 : found->second}});
      }
      return list;
    };
    const auto ranges = [](const std::vector<Prefix>& prefixes) {
      auto texts = json::array();
      for (const auto& prefix : prefixes) texts.push_back(prefix.to_string());
      return texts;
    };
    auto list = json::array();
    for (const auto& [frontend, target] : service_compiler_.table()) {
      list.push_back(
          {{"service", target->service},
           {"address", frontend.address.to_string()},
           {"port", frontend.port},
           {"protocol", model::to_string(frontend.protocol)},
           {"fromOutside", target->from_outside},
           {"masquerade", target->masquerade},
           {"affinitySeconds", target->affinity_seconds ? json(*target->affinity_seconds) : json()},
           {"sourceRanges", ranges(target->source_ranges)},
           {"backends", backends(target->service, *target->internal)},
           {"backendsFromOutside",
            target->from_outside ? backends(target->service, *target->external) : json::array()}});
    }
    auto checks = json::array();
    for (const auto& [port, check] : service_compiler_.health_checks())
      checks.push_back({{"port", port},
                        {"service", check.ns + "/" + check.name},
                        {"localEndpoints", check.local_endpoints}});
    return {200,
            {{"services", std::move(list)},
             {"healthChecks", std::move(checks)},
             {"rejected", service_compiler_.rejected()},
             {"synced", state_.services_synced()},
             {"applied", !services_dirty_}}};
  });
}

}  // namespace sluice::controller
