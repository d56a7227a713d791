// SPDX-License-Identifier: Apache-2.0
// /metrics: the kernel's counters and the daemon's own. Asked on the server's thread; only what is
// thread-safe.
#include "daemon/server/metrics.h"

#include "daemon/controller/controller.h"

namespace sluice::controller {

std::string Controller::metrics() {
  using server::Metric;
  using server::MetricType;
  std::vector<Metric> all;
  const auto one = [&](const char* name, const char* help, MetricType type, double value) {
    all.push_back({name, help, type, {{value, {}}}});
  };
  const auto number = [](std::uint64_t value) { return static_cast<double>(value); };

  if (const auto stats = datapath_->stats()) {
    Metric in{"sluice_packets_in_total", "Packets that entered a hook.", MetricType::kCounter, {}};
    for (std::uint32_t hook = 0; hook < SLUICE_HOOK_PROBE; ++hook)
      in.samples.push_back({number(stats->in[hook]), {{"hook", datapath::hook_name(hook)}}});
    Metric out{"sluice_packets_out_total",
               "Packets by where they went; with the drops, the sum of those that came in.",
               MetricType::kCounter,
               {{number(stats->delivered), {{"to", "pod"}}},
                {number(stats->to_stack), {{"to", "stack"}}},
                {number(stats->out_tunnel), {{"to", "tunnel"}}},
                {number(stats->out_uplink), {{"to", "uplink"}}},
                {number(stats->answered), {{"to", "answered"}}}}};
    Metric drops{"sluice_packets_dropped_total",
                 "Packets dropped, by reason (docs/drop-reasons.md).",
                 MetricType::kCounter,
                 {}};
    for (std::uint32_t reason = 1; reason < SLUICE_DROP_COUNT; ++reason)
      drops.samples.push_back(
          {number(stats->drops[reason]), {{"reason", datapath::drop_reason_name(reason)}}});
    Metric modules{
        "sluice_module_packets_total", "Packets that a module worked on.", MetricType::kCounter, {}};
    for (std::uint32_t module = 0; module < SLUICE_MODULE_COUNT; ++module)
      if (module != SLUICE_MODULE_CANDIDATE && module != SLUICE_MODULE_PROBE)
        modules.samples.push_back(
            {number(stats->module_packets[module]), {{"module", datapath::module_name(module)}}});
    Metric direct{"sluice_tunnel_direct_packets_total",
                  "Of the packets from and to other nodes, those that went past the VXLAN device.",
                  MetricType::kCounter,
                  {{number(stats->direct_in), {{"direction", "in"}}},
                   {number(stats->direct_out), {{"direction", "out"}}}}};
    for (auto* metric : {&in, &out, &drops, &modules, &direct}) all.push_back(std::move(*metric));
  }
  one("sluice_tunnel_direct", "1: packets to other nodes go past the VXLAN device where they can.",
      MetricType::kGauge, datapath_->tunnel().direct ? 1 : 0);
  for (const auto& generation : datapath_->generations()) {
    if (!generation.live) continue;
    one("sluice_firewall_generation", "Number of the live firewall generation.", MetricType::kGauge,
        generation.number);
    one("sluice_firewall_swap_timestamp_seconds", "When it went live.", MetricType::kGauge,
        std::chrono::duration<double>(generation.swapped_at.time_since_epoch()).count());
    const std::chrono::duration<double> took =
        generation.build + generation.fill + generation.load + generation.check + generation.swap;
    one("sluice_firewall_transaction_seconds", "How long its transaction took.", MetricType::kGauge,
        took.count());
  }
  const auto conntrack = datapath_->conntrack();
  one("sluice_conntrack_entries", "Connections in the conntrack table.", MetricType::kGauge,
      number(conntrack.entries));
  one("sluice_conntrack_max_entries", "Size of the conntrack table.", MetricType::kGauge,
      number(conntrack.max_entries));
  one("sluice_conntrack_expired_total", "Entries that were collected.", MetricType::kCounter,
      number(conntrack.expired_total));

  const auto source = source_->status();
  one("sluice_source_connected", "1: every kind of object is being watched.", MetricType::kGauge,
      source.connected ? 1 : 0);
  one("sluice_source_events_total", "Changes that the source told.", MetricType::kCounter,
      number(source.events));
  one("sluice_source_errors_total", "Failed lists and watches.", MetricType::kCounter, number(source.errors));

  std::string why_not;
  one("sluice_ready", "1: CNI ADD would work.", MetricType::kGauge, ready(why_not) ? 1 : 0);
  const std::lock_guard lock(mutex_);
  one("sluice_objects_rejected", "Objects that cannot be used as they are now (sluicectl status names them).",
      MetricType::kGauge, number(source.rejected.size() + refused_.size() + policies_without_namespace_));
  one("sluice_policies_refused",
      "Of those, NetworkPolicies that would take too much (docs/policy-limits.md).", MetricType::kGauge,
      number(refused_.size()));
  if (conntrack_.contains("heaviest")) {
    Metric heaviest{
        "sluice_conntrack_heaviest_entries",
        "Entries of those who have the most: connections that a pod opened (from), that others opened to "
        "it (to), and those of the node.",
        MetricType::kGauge,
        {}};
    for (const auto& each : conntrack_.at("heaviest"))
      heaviest.samples.push_back({each.at("entries").get<double>(),
                                  {{"direction", each.at("direction").get<std::string>()},
                                   {"endpoint", each.at("endpoint").dump()},
                                   {"pod", each.at("pod").get<std::string>()}}});
    all.push_back(std::move(heaviest));
  }
  Metric by_service{"sluice_service_connections",
                    "Connections to a Service's port that are known, by backend; of backends that have some.",
                    MetricType::kGauge,
                    {}};
  for (const auto& [ends, count] : service_connections_)
    by_service.samples.push_back(
        {number(count),
         {{"service", ends.first},
          {"backend", fmt::format("{}:{}", ends.second.address.to_string(), ends.second.port)}}});
  if (!by_service.samples.empty()) all.push_back(std::move(by_service));
  one("sluice_service_claims_rejected",
      "What Services and hostPorts ask for and do not get (sluicectl service list names it).",
      MetricType::kGauge, number(claims_rejected_));
  one("sluice_cni_add_total", "Attachments made.", MetricType::kCounter, number(adds_total_));
  one("sluice_cni_del_total", "Attachments given back by DEL.", MetricType::kCounter, number(dels_total_));
  one("sluice_put_back_total",
      "What somebody else took from the node (interfaces, addresses, routes, rules, files) and Sluice put back.",
      MetricType::kCounter, number(put_back_total_));
  one("sluice_policy_apply_failures_total", "Rulesets that could not be made live.", MetricType::kCounter,
      number(apply_failures_));
  one("sluice_peers_left_out",
      "Addresses of pods for which the firewall has no room: rules do not admit them.", MetricType::kGauge,
      number(peers_left_out_));
  one("sluice_objects_rejected_total", "Objects that could not be used.", MetricType::kCounter,
      number(rejected_total_));
  return server::render_metrics(all);
}

}  // namespace sluice::controller
