// SPDX-License-Identifier: Apache-2.0
// Connections that conntrack knows: for people to look at and to end, and who has too many of them.
#include <spdlog/spdlog.h>

#include "daemon/controller/controller.h"
#include "daemon/controller/protocols.h"

namespace sluice::controller {

using nlohmann::json;
using server::Answer;

namespace {

// Drops that say that there is no room for more connections, and what is short then.
constexpr std::pair<sluice_drop_reason, const char*> kShortages[] = {
    {SLUICE_DROP_CT_BUDGET, "by those who have more conntrack entries than are free"},
    {SLUICE_DROP_CT_FULL, "because conntrack is full"},
    {SLUICE_DROP_SNAT_PORTS_EXHAUSTED, "for want of a masquerade port"}};
constexpr std::chrono::minutes kBetweenWarnings{1};

Answer refused(int http, const std::string& why) {
  auto answer = server::cni_error(server::kCniDecodeFailure, why);
  answer.http = http;
  return answer;
}

}  // namespace

std::string Controller::pod_name(std::uint32_t id) const {
  const auto known = state_.cluster().endpoints.find(id);
  if (known == state_.cluster().endpoints.end() || known->second.pod.empty()) return "";
  return known->second.ns + "/" + known->second.pod;
}

std::map<Address, std::uint32_t> Controller::pod_addresses() const {
  std::map<Address, std::uint32_t> addresses;
  for (const auto& unclaimed : unclaimed_) addresses[unclaimed.ipv4] = unclaimed.id;
  for (const auto& [key, attachment] : ipam_.attachments()) addresses[attachment.ipv4] = attachment.endpoint;
  return addresses;
}

json Controller::owner_json(std::uint32_t owner) const {
  const bool opens = owner < SLUICE_MAX_ENDPOINTS;
  const auto id = opens ? owner : owner - SLUICE_MAX_ENDPOINTS;
  return {{"endpoint", id}, {"pod", pod_name(id)}, {"direction", id == 0 ? "node" : opens ? "from" : "to"}};
}

json Controller::conntrack_json() const {
  const auto status = datapath_->conntrack();
  json heaviest = json::array();
  for (const auto& use : status.heaviest) {
    auto each = owner_json(use.owner);
    each["entries"] = use.entries;
    heaviest.push_back(std::move(each));
  }
  return {{"entries", status.entries}, {"max", status.max_entries}, {"heaviest", std::move(heaviest)}};
}

Result<datapath::ConnectionFilter> Controller::connection_filter(const server::ConnectionQuery& query) const {
  datapath::ConnectionFilter filter;
  if (!query.protocol.empty()) {
    filter.proto = protocol_number(query.protocol);
    if (!filter.proto)
      return failure("'{}' is no protocol; TCP, UDP, SCTP, ICMP or a number is", query.protocol);
  }
  if (query.of.empty()) return filter;
  if (const auto address = Address::parse(query.of)) {
    filter.address = *address;
    return filter;
  }
  for (const auto& [address, id] : pod_addresses()) {
    if (query.of != std::to_string(id) && query.of != pod_name(id)) continue;
    filter.address = address;
    return filter;
  }
  return failure("'{}' is no address and no endpoint of this node; `sluicectl endpoints` lists them",
                 query.of);
}

Answer Controller::conntrack_list(const server::ConnectionQuery& query) {
  datapath::ConnectionFilter filter;
  const auto asked = on_thread([&]() -> Answer {
    auto made = connection_filter(query);
    if (!made) return refused(404, made.error().message);
    filter = *made;
    return {};
  });
  if (asked.http != 200) return asked;
  // The table can be large: read on the server's thread.
  const auto found = datapath_->connections(filter, query.most);
  if (!found) return server::cni_error(server::kCniInternal, found.error().message);
  return on_thread([&]() -> Answer {
    const auto pods = pod_addresses();
    const auto end = [&](const datapath::Connection::End& each) {
      const auto pod = pods.find(each.address);
      return json{{"address", each.address.to_string()},
                  {"port", each.port},
                  {"pod", pod == pods.end() ? "" : pod_name(pod->second)}};
    };
    const auto seconds = [](std::chrono::nanoseconds time) {
      return std::chrono::duration_cast<std::chrono::seconds>(time).count();
    };
    json list = json::array();
    for (const auto& connection : found->list) {
      json each{{"protocol", protocol_name(connection.proto)},
                {"state", connection.state},
                {"source", end(connection.source)},
                {"destination", end(connection.destination)},
                {"owner", owner_json(connection.owner)},
                {"idleSeconds", seconds(connection.idle)},
                {"expiresInSeconds", seconds(connection.expires_in)}};
      if (connection.service)
        each["service"] = {{"address", connection.service->address.to_string()},
                           {"port", connection.service->port}};
      if (connection.masquerade_port) each["masqueradePort"] = *connection.masquerade_port;
      list.push_back(std::move(each));
    }
    return {200, {{"connections", std::move(list)}, {"total", found->total}}};
  });
}

Answer Controller::conntrack_flush(const server::ConnectionQuery& query) {
  datapath::ConnectionFilter filter;
  const auto asked = on_thread([&]() -> Answer {
    auto made = connection_filter(query);
    if (!made) return refused(404, made.error().message);
    filter = *made;
    return {};
  });
  if (asked.http != 200) return asked;
  if (!filter.address && !filter.proto && !query.all)
    return refused(400, "flushing needs an endpoint, an address or a protocol; or all, said so");
  const auto flushed = datapath_->flush_connections(filter);
  if (!flushed) return server::cni_error(server::kCniInternal, flushed.error().message);
  spdlog::info("{} connections flushed from conntrack (of: {}, protocol: {})", *flushed,
               query.of.empty() ? "everybody" : query.of, query.protocol.empty() ? "all" : query.protocol);
  return {200, {{"flushed", *flushed}}};
}

// An administrator is told when connections begin to be refused, by whom, and when that is over.
void Controller::watch_connections() {
  const auto stats = datapath_->stats();
  if (!stats) return;
  auto conntrack = conntrack_json();
  const auto now = Clock::now();
  for (const auto& [reason, why] : kShortages) {
    auto& shortage = shortages_[reason];
    const auto dropped = stats->drops[reason];
    if (!shortage.known) {
      shortage = {true, dropped, dropped, now, {}};
      continue;
    }
    if (dropped != shortage.seen) shortage.last_at = now;
    shortage.seen = dropped;
    const bool due = !shortage.warned_at || now - *shortage.warned_at >= kBetweenWarnings;
    if (dropped > shortage.told && due) {
      std::string most;
      for (const auto& each : conntrack.at("heaviest")) {
        const auto pod = each.at("pod").get<std::string>();
        const auto direction = each.at("direction").get<std::string>();
        most += fmt::format(
            "{}{} ({} entries)", most.empty() ? "" : ", ",
            direction == "node"
                ? "the node and what it passes on"
                : direction + " " + (pod.empty() ? "endpoint " + each.at("endpoint").dump() : pod),
            each.at("entries").get<std::uint64_t>());
      }
      spdlog::warn(
          "{} packets that open a connection were dropped {} ({}); conntrack has {} of {} entries, most of "
          "them: {}. `sluicectl conntrack list` shows them, docs/drop-reasons.md what to do",
          dropped - shortage.told, why, datapath::drop_reason_name(reason),
          conntrack.at("entries").get<std::uint64_t>(), conntrack.at("max").get<std::uint64_t>(),
          most.empty() ? "none" : most);
      shortage.told = dropped;
      shortage.warned_at = now;
    } else if (shortage.warned_at && now - shortage.last_at >= kBetweenWarnings) {
      spdlog::info("no packet was dropped {} for {} s", why,
                   std::chrono::duration_cast<std::chrono::seconds>(now - shortage.last_at).count());
      shortage.warned_at.reset();
      shortage.told = dropped;
    }
  }
  // What is no Service's any more has no name.
  decltype(service_connections_) by_service;
  for (const auto& [ends, count] : datapath_->served_connections()) {
    const auto& [frontend, backend] = ends;
    const auto& table = service_compiler_.table();
    if (const auto found = table.find(frontend); found != table.end())
      by_service[{found->second->service, backend}] += count;
  }
  const std::lock_guard lock(mutex_);
  conntrack_ = std::move(conntrack);
  service_connections_ = std::move(by_service);
}

}  // namespace sluice::controller
