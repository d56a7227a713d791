// SPDX-License-Identifier: Apache-2.0
// What sluicectl, probes and Prometheus ask. Shapes: docs/api.md.
#include <arpa/inet.h>
#include <fmt/chrono.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <numeric>

#include "daemon/controller/controller.h"
#include "daemon/controller/protocols.h"
#include "daemon/policy/evaluator.h"

namespace sluice::controller {

using nlohmann::json;
using server::Answer;

namespace {

std::string rfc3339(std::chrono::system_clock::time_point time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()) % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(time)),
                     ms.count());
}

double ms(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

json packets_json(const sluice_stats& stats) {
  json in = json::object();
  std::uint64_t entered = 0;
  for (std::uint32_t hook = 0; hook < SLUICE_HOOK_PROBE; ++hook) {
    in[datapath::hook_name(hook)] = stats.in[hook];
    entered += stats.in[hook];
  }
  json drops = json::object();
  std::uint64_t left =
      stats.delivered + stats.to_stack + stats.out_tunnel + stats.out_uplink + stats.answered;
  for (std::uint32_t reason = 1; reason < SLUICE_DROP_COUNT; ++reason) {
    left += stats.drops[reason];
    if (stats.drops[reason] > 0) drops[datapath::drop_reason_name(reason)] = stats.drops[reason];
  }
  return {{"in", in},
          {"delivered", stats.delivered},
          {"toStack", stats.to_stack},
          {"outTunnel", stats.out_tunnel},
          {"outUplink", stats.out_uplink},
          {"answered", stats.answered},
          {"direct", {{"in", stats.direct_in}, {"out", stats.direct_out}}},
          {"drops", drops},
          {"unaccounted", static_cast<std::int64_t>(entered - left)}};
}

json generation_json(const datapath::GenerationStatus& g) {
  return {{"number", g.number},
          {"slot", g.slot},
          {"programID", g.program_id},
          {"epoch", g.epoch},
          {"live", g.live},
          {"reason", g.reason},
          {"swappedAt", rfc3339(g.swapped_at)},
          {"durationsMs",
           {{"build", ms(g.build)},
            {"fill", ms(g.fill)},
            {"load", ms(g.load)},
            {"check", ms(g.check)},
            {"swap", ms(g.swap)}}},
          {"checkPackets", g.check_packets},
          {"counters",
           {{"judged", g.counters.judged},
            {"allowed", g.counters.allowed},
            {"deniedIngress", g.counters.denied_ingress},
            {"deniedEgress", g.counters.denied_egress},
            {"rejudged", g.counters.rejudged}}}};
}

}  // namespace

json Controller::endpoint_json(std::uint32_t id) const {
  const auto& endpoint = state_.cluster().endpoints.at(id);
  const auto effective = policy::effective_policy(state_.cluster(), id, refused_);
  json out{{"id", id},
           {"namespace", endpoint.ns},
           {"pod", endpoint.pod},
           {"isolatedIngress", effective.isolated_ingress},
           {"isolatedEgress", effective.isolated_egress},
           {"state", policy_live_ ? "ready" : "adopted"}};
  for (const auto& [key, attachment] : ipam_.attachments()) {
    if (attachment.endpoint != id) continue;
    out.update({{"containerID", key.container_id},
                {"ifname", key.ifname},
                {"address", attachment.ipv4.to_string()},
                {"mac", Mac::of_pod(attachment.ipv4).to_string()},
                {"hostIfname", attachment.host_ifname},
                {"hostIfindex", attachment.host_ifindex}});
    return out;
  }
  for (const auto& unclaimed : unclaimed_)
    if (unclaimed.id == id)
      out.update({{"address", unclaimed.ipv4.to_string()},
                  {"mac", unclaimed.mac.to_string()},
                  {"hostIfname", unclaimed.ifname},
                  {"hostIfindex", unclaimed.ifindex},
                  {"state", "record damaged"}});
  return out;
}

Answer Controller::status() {
  return on_thread([this]() -> Answer {
    auto stats = datapath_->stats();
    if (!stats) return server::cni_error(server::kCniInternal, stats.error().message);
    auto audit = datapath_->audit();
    if (!audit) return server::cni_error(server::kCniInternal, audit.error().message);
    const auto source = source_->status();
    const auto why_not = not_ready();
    json cidrs = json::array();
    if (node_config_)
      for (const auto& cidr : node_config_->pod_cidrs) cidrs.push_back(cidr.to_string());
    json firewall = json::object();
    for (const auto& generation : datapath_->generations())
      if (generation.live)
        firewall = {{"generation", generation.number},
                    {"epoch", generation.epoch},
                    {"swappedAt", rfc3339(generation.swapped_at)},
                    {"reason", generation.reason}};
    auto conntrack = conntrack_json();
    const auto sockets = datapath_->sockets();
    const auto tunnel = datapath_->tunnel();
    auto links = datapath_->links();
    const auto attached = [&](bool by_tcx) {
      return links && std::any_of(links->begin(), links->end(),
                                  [&](const auto& link) { return (link.link_id != 0) == by_tcx; });
    };
    const std::lock_guard lock(mutex_);
    json rejected = source.rejected;
    for (const auto& [policy, why] : refused_)
      rejected.push_back(fmt::format("NetworkPolicy {} is refused: {}", policy, why));
    for (auto& each : missing_namespaces_.told()) rejected.push_back(std::move(each));
    return {200,
            {{"version", SLUICE_VERSION},
             {"abi", SLUICE_ABI_VERSION},
             {"node", options_.node_name},
             {"source",
              {{"description", source.description},
               {"connected", source.connected},
               {"synced", state_.synced()},
               {"lastError", source.last_error},
               {"lists", source.lists},
               {"watches", source.watches},
               {"events", source.events},
               {"errors", source.errors}}},
             {"ready", why_not.empty()},
             {"notReadyReason", why_not},
             {"endpoints", state_.cluster().endpoints.size()},
             {"addresses",
              {{"used", ipam_.attachments().size() + unclaimed_.size()},
               {"capacity", ipam_.capacity()},
               {"cidrs", cidrs}}},
             {"firewall", firewall},
             {"peersLeftOut", peers_left_out_},
             {"services",
              {{"synced", state_.services_synced()},
               {"frontends", service_compiler_.table().size()},
               {"rejected", service_compiler_.rejected().size()},
               {"applied", !services_dirty_},
               {"cgroup", sockets.cgroup},
               {"noCgroupReason", sockets.why_not}}},
             {"tunnel", {{"direct", tunnel.direct}, {"notDirectReason", tunnel.why_not}}},
             {"conntrack", std::move(conntrack)},
             {"packets", packets_json(*stats)},
             {"audit", *audit},
             {"putBack", {{"total", put_back_total_}, {"last", last_put_back_}}},
             {"startedAt", rfc3339(started_at_)},
             {"attach", !attached(true)   ? "clsact"
                        : attached(false) ? "tcx, clsact"
                                          : "tcx"},
             {"rejected", std::move(rejected)}}};
  });
}

Answer Controller::endpoints() {
  return on_thread([this]() -> Answer {
    json list = json::array();
    for (const auto& [id, endpoint] : state_.cluster().endpoints) list.push_back(endpoint_json(id));
    return {200, {{"endpoints", list}}};
  });
}

Answer Controller::endpoint_policy(const std::string& which) {
  return on_thread([this, which]() -> Answer {
    for (const auto& [id, endpoint] : state_.cluster().endpoints) {
      const auto described = endpoint_json(id);
      if (which != std::to_string(id) && which != endpoint.ns + "/" + endpoint.pod &&
          which != described.value("address", ""))
        continue;
      const auto effective = policy::effective_policy(state_.cluster(), id, refused_);
      json rules = json::array();
      for (const auto& rule : effective.rules)
        rules.push_back({{"direction", rule.direction}, {"policy", rule.policy}, {"text", rule.text}});
      return {200,
              {{"endpoint", described},
               {"isolatedIngress", effective.isolated_ingress},
               {"isolatedEgress", effective.isolated_egress},
               {"rules", rules}}};
    }
    auto answer = server::cni_error(server::kCniUnknownContainer, "no endpoint of this node is '" + which +
                                                                      "'; `sluicectl endpoints` lists them");
    answer.http = 404;
    return answer;
  });
}

Answer Controller::firewall() {
  json live = nullptr;
  json all = json::array();
  for (const auto& generation : datapath_->generations()) {
    all.push_back(generation_json(generation));
    if (generation.live) live = all.back();
  }
  return {200, {{"live", live}, {"generations", all}}};
}

Answer Controller::modules() {
  auto modules = datapath_->modules();
  auto links = datapath_->links();
  auto maps = datapath_->maps();
  if (!modules) return server::cni_error(server::kCniInternal, modules.error().message);
  if (!links) return server::cni_error(server::kCniInternal, links.error().message);
  if (!maps) return server::cni_error(server::kCniInternal, maps.error().message);
  Answer answer{200, {{"modules", json::array()}, {"links", json::array()}, {"maps", json::array()}}};
  for (const auto& m : *modules)
    answer.body["modules"].push_back({{"name", m.name},
                                      {"slot", m.slot},
                                      {"programID", m.program_id},
                                      {"tag", m.tag},
                                      {"instructions", m.instructions},
                                      {"mapIDs", m.map_ids}});
  for (const auto& l : *links)
    answer.body["links"].push_back(
        {{"interface", l.name}, {"ifindex", l.ifindex}, {"linkID", l.link_id}, {"programID", l.program_id}});
  for (const auto& m : *maps)
    answer.body["maps"].push_back({{"name", m.name}, {"id", m.id}, {"maxEntries", m.max_entries}});
  return answer;
}

void Controller::monitor(bool drops, bool verdicts, const std::function<bool(const std::string&)>& line) {
  // Names of pods as they are when the monitor starts an event's line; looked up on the controller's thread.
  const auto pod_names = [this] {
    std::map<std::uint32_t, std::string> names;
    on_thread([&]() -> Answer {
      for (const auto& [id, endpoint] : state_.cluster().endpoints)
        if (!endpoint.pod.empty()) names[id] = endpoint.ns + "/" + endpoint.pod;
      return {};
    });
    return names;
  };
  struct Queue {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<sluice_event> events;
    std::uint64_t lost = 0;
  };
  constexpr std::size_t kMost = 65536;
  auto queue = std::make_shared<Queue>();
  const std::uint32_t flags =
      (drops ? unsigned{SLUICE_MONITOR_DROPS} : 0u) | (verdicts ? unsigned{SLUICE_MONITOR_VERDICTS} : 0u);
  auto handle = datapath_->monitor(flags, [queue](const sluice_event& event) {
    const std::lock_guard lock(queue->mutex);
    if (queue->events.size() < kMost)
      queue->events.push_back(event);
    else
      ++queue->lost;
    queue->wake.notify_one();
  });
  if (!handle) {
    line(json{{"error", handle.error().message}}.dump());
    return;
  }
  // Event times are of CLOCK_MONOTONIC.
  const auto offset = std::chrono::system_clock::now().time_since_epoch() - Clock::now().time_since_epoch();
  while (true) {
    std::deque<sluice_event> events;
    std::uint64_t lost = 0;
    {
      std::unique_lock lock(queue->mutex);
      queue->wake.wait_for(lock, std::chrono::seconds(1), [&] { return !queue->events.empty(); });
      events.swap(queue->events);
      std::swap(lost, queue->lost);
    }
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    if (events.empty() && !line("")) return;
    const auto names = events.empty() ? std::map<std::uint32_t, std::string>{} : pod_names();
    const auto name = [&](std::uint32_t id) { return names.contains(id) ? names.at(id) : ""; };
    if (lost > 0 && !line(json{{"kind", "lost"}, {"events", lost}}.dump())) return;
    for (const auto& e : events) {
      const auto time = std::chrono::system_clock::time_point(
          std::chrono::duration_cast<std::chrono::system_clock::duration>(
              std::chrono::nanoseconds(e.time_ns) + offset));
      const json out{
          {"time", rfc3339(time)},
          {"kind", e.kind == SLUICE_EVENT_DROP ? "drop" : "verdict"},
          {"reason", e.reason == SLUICE_DROP_NONE ? "ALLOWED" : datapath::drop_reason_name(e.reason)},
          {"reasonText", e.reason == SLUICE_DROP_NONE ? "allowed" : datapath::drop_reason_text(e.reason)},
          {"hook", datapath::hook_name(e.hook)},
          {"module", datapath::module_name(e.module)},
          {"source", Address::from_abi(e.src).to_string()},
          {"sourcePort", ntohs(e.sport_be)},
          {"destination", Address::from_abi(e.dst).to_string()},
          {"destinationPort", ntohs(e.dport_be)},
          {"protocol", protocol_name(e.proto)},
          {"sourceEndpoint", e.src_endpoint},
          {"destinationEndpoint", e.dst_endpoint},
          {"sourcePod", name(e.src_endpoint)},
          {"destinationPod", name(e.dst_endpoint)},
          {"generation", e.generation},
          {"length", e.length}};
      if (!line(out.dump())) return;
    }
  }
}

}  // namespace sluice::controller
