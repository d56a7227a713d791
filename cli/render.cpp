// SPDX-License-Identifier: Apache-2.0
#include "cli/render.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace sluice::cli {

using nlohmann::json;

namespace {

const json kNone = json::object();
const json kNoList = json::array();

const json& part(const json& of, const char* field) {
  const auto found = of.find(field);
  return found != of.end() && !found->is_null() ? *found : kNone;
}

const json& list(const json& of, const char* field) {
  const auto found = of.find(field);
  return found != of.end() && !found->is_null() ? *found : kNoList;
}

std::string text(const json& of, const char* field) { return of.value(field, ""); }
bool flag(const json& of, const char* field) { return of.value(field, false); }
std::uint64_t count(const json& of, const char* field) { return of.value(field, std::uint64_t{0}); }
std::string number(const json& of, const char* field) { return std::to_string(count(of, field)); }

std::string join(const json& values, const std::string& separator = ", ") {
  std::string joined;
  for (const auto& value : values)
    joined +=
        (joined.empty() ? "" : separator) + (value.is_string() ? value.get<std::string>() : value.dump());
  return joined;
}

std::string or_dash(const std::string& value) { return value.empty() ? "-" : value; }

std::string pod_name(const std::string& ns, const std::string& pod) {
  return pod.empty() ? "-" : ns + "/" + pod;
}

// One or more rows of which only the first has the name.
void add_lines(Table& table, const std::string& name, const json& lines, const std::string& none) {
  if (lines.empty()) return table.add({name, none});
  bool first = true;
  for (const auto& line : lines) {
    table.add({first ? name : "", line.get<std::string>()});
    first = false;
  }
}

void add_source(Table& table, const json& source) {
  table.add({"Source", text(source, "description") +
                           (flag(source, "connected") ? ", connected" : ", NOT connected") +
                           (flag(source, "synced") ? ", synced" : ", NOT synced")});
  table.add({"", fmt::format("{} lists, {} watches, {} events, {} errors", count(source, "lists"),
                             count(source, "watches"), count(source, "events"), count(source, "errors"))});
  if (const auto error = text(source, "lastError"); !error.empty()) table.add({"", "last error: " + error});
}

void add_packets(Table& table, const json& packets) {
  const auto& in = part(packets, "in");
  table.add({"Packets in",
             fmt::format("{} from pods, {} from the node, {} from the overlay, {} from the uplink",
                         count(in, "pod"), count(in, "host"), count(in, "overlay"), count(in, "uplink"))});
  table.add({"Packets out",
             fmt::format("{} to pods, {} to the node's stack, {} to other nodes, {} to the uplink, {} "
                         "ARP requests answered",
                         count(packets, "delivered"), count(packets, "toStack"), count(packets, "outTunnel"),
                         count(packets, "outUplink"), count(packets, "answered"))});
  const auto& drops = part(packets, "drops");
  std::uint64_t dropped = 0;
  for (const auto& [reason, packets_dropped] : drops.items()) dropped += packets_dropped.get<std::uint64_t>();
  table.add({"Dropped", std::to_string(dropped)});
  for (const auto& [reason, packets_dropped] : drops.items())
    table.add({"", fmt::format("{} {}", reason, packets_dropped.get<std::uint64_t>())});
  // Negative or positive: the counters of several CPUs are not read at one instant.
  table.add({"Unaccounted", std::to_string(packets.value("unaccounted", std::int64_t{0}))});
}

bool has_ports(const std::string& protocol) {
  return protocol == "TCP" || protocol == "UDP" || protocol == "SCTP";
}

std::string party(const json& event, const std::string& side) {
  const auto address = text(event, side.c_str());
  std::string shown = address;
  if (has_ports(text(event, "protocol"))) {
    const bool v6 = address.find(':') != std::string::npos;
    shown = fmt::format("{}{}{}:{}", v6 ? "[" : "", address, v6 ? "]" : "",
                        count(event, (side + "Port").c_str()));
  }
  if (const auto pod = text(event, (side + "Pod").c_str()); !pod.empty()) return shown + " (" + pod + ")";
  const auto endpoint = count(event, (side + "Endpoint").c_str());
  return endpoint == 0 ? shown : fmt::format("{} (endpoint {})", shown, endpoint);
}

std::string end_of(const json& end, bool ports) {
  const auto address = text(end, "address");
  const bool v6 = address.find(':') != std::string::npos;
  return ports ? fmt::format("{}{}{}:{}", v6 ? "[" : "", address, v6 ? "]" : "", count(end, "port"))
               : address;
}

std::string owner_of(const json& owner) {
  const auto direction = text(owner, "direction");
  if (direction == "node") return "the node";
  const auto pod = text(owner, "pod");
  return direction + " " + (pod.empty() ? "endpoint " + number(owner, "endpoint") : pod);
}

json ends_of(const json& backends) {
  json ends = json::array();
  for (const auto& backend : backends) ends.push_back(end_of(backend, true));
  return ends;
}

// With how much they are used.
json uses_of(const json& backends) {
  json uses = json::array();
  for (const auto& backend : backends) {
    const auto connections = count(backend, "connections");
    uses.push_back(end_of(backend, true) +
                   (connections == 0 ? "" : fmt::format(" ({} connections)", connections)));
  }
  return uses;
}

std::string milliseconds(const json& durations, const char* step) {
  return fmt::format("{:.3f}", durations.value(step, 0.0));
}

}  // namespace

std::string render_status(const json& status, Time now) {
  const auto& addresses = part(status, "addresses");
  const auto& firewall = part(status, "firewall");
  const auto& conntrack = part(status, "conntrack");
  Table table;
  table.add({"Node", text(status, "node")});
  table.add({"Version", fmt::format("sluiced {}, datapath ABI {}, hooks by {}", text(status, "version"),
                                    count(status, "abi"), text(status, "attach"))});
  table.add({"Started", time_with_age(text(status, "startedAt"), now)});
  table.add({"Ready", flag(status, "ready") ? "yes" : "NO: " + text(status, "notReadyReason")});
  add_source(table, part(status, "source"));
  table.add({"Endpoints", number(status, "endpoints")});
  const auto cidrs = join(list(addresses, "cidrs"));
  table.add({"Addresses", fmt::format("{} of {} used in {}", count(addresses, "used"),
                                      count(addresses, "capacity"), cidrs.empty() ? "no podCIDR" : cidrs)});
  if (firewall.empty())
    table.add({"Firewall", "no generation yet: packets of pods are dropped"});
  else
    table.add(
        {"Firewall", fmt::format("generation {}, epoch {}, live since {}: {}", count(firewall, "generation"),
                                 count(firewall, "epoch"), time_with_age(text(firewall, "swappedAt"), now),
                                 text(firewall, "reason"))});
  if (const auto& services = part(status, "services"); !services.empty()) {
    const auto cgroup = text(services, "cgroup");
    table.add(
        {"Services", fmt::format("{} frontends{}, the node's own processes {}", count(services, "frontends"),
                                 flag(services, "applied") ? "" : " (NOT all applied)",
                                 cgroup.empty() ? "packet by packet: " + text(services, "noCgroupReason")
                                                : "at the socket (" + cgroup + ")")});
  }
  if (const auto& tunnel = part(status, "tunnel"); !tunnel.empty())
    table.add({"Tunnel", flag(tunnel, "direct") ? "by the modules at the uplink"
                                                : "by the VXLAN device: " + text(tunnel, "notDirectReason")});
  const auto most = count(conntrack, "max");
  const auto entries = count(conntrack, "entries");
  const double percent = most == 0 ? 0.0 : 100.0 * static_cast<double>(entries) / static_cast<double>(most);
  table.add({"Conntrack", fmt::format("{} of {} entries ({:.1f}%)", entries, most, percent)});
  for (const auto& use : list(conntrack, "heaviest"))
    table.add({"", fmt::format("{} {}", count(use, "entries"), owner_of(use))});
  add_packets(table, part(status, "packets"));
  add_lines(table, "Audit", list(status, "audit"), "the kernel's maps are as they should be");
  add_lines(table, "Rejected", list(status, "rejected"), "no object");
  return table.text();
}

std::string render_endpoints(const json& answer) {
  if (list(answer, "endpoints").empty()) return "No endpoints on this node.\n";
  Table table({"ID", "POD", "ADDRESS", "MAC", "INTERFACE", "IFINDEX", "ISOLATED", "STATE", "CONTAINER",
               "CONTAINER IF"});
  for (const auto& e : list(answer, "endpoints")) {
    const bool in = flag(e, "isolatedIngress"), out = flag(e, "isolatedEgress");
    table.add({number(e, "id"), pod_name(text(e, "namespace"), text(e, "pod")), or_dash(text(e, "address")),
               or_dash(text(e, "mac")), or_dash(text(e, "hostIfname")), number(e, "hostIfindex"),
               in && out ? "ingress,egress"
               : in      ? "ingress"
               : out     ? "egress"
                         : "no",
               or_dash(text(e, "state")), or_dash(text(e, "containerID")), or_dash(text(e, "ifname"))});
  }
  return table.text();
}

std::string render_policy(const json& answer) {
  const auto& endpoint = part(answer, "endpoint");
  std::string out = fmt::format("Endpoint {}, pod {}, {}\n", count(endpoint, "id"),
                                pod_name(text(endpoint, "namespace"), text(endpoint, "pod")),
                                or_dash(text(endpoint, "address")));
  for (const auto* direction : {"ingress", "egress"}) {
    const bool ingress = std::string_view(direction) == "ingress";
    out += fmt::format("\n{}: ", ingress ? "Ingress" : "Egress");
    if (!flag(answer, ingress ? "isolatedIngress" : "isolatedEgress")) {
      out += "not isolated, everything is allowed\n";
      continue;
    }
    Table table({"POLICY", "ALLOWS"});
    bool any = false;
    for (const auto& rule : list(answer, "rules")) {
      if (text(rule, "direction") != direction) continue;
      table.add({text(rule, "policy"), text(rule, "text")});
      any = true;
    }
    out += any ? "isolated, allowed is only\n" + table.text("  ") : "isolated, nothing is allowed\n";
  }
  return out;
}

std::string render_firewall(const json& answer, Time now) {
  if (list(answer, "generations").empty())
    return "No firewall generation yet: packets of pods are dropped.\n";
  Table table({"", "GENERATION", "EPOCH", "SLOT", "PROGRAM", "JUDGED", "ALLOWED", "DENIED IN", "DENIED OUT",
               "REJUDGED", "CHECKED", "BUILD ms", "FILL ms", "LOAD ms", "CHECK ms", "SWAP ms", "SWAPPED AT",
               "REASON"});
  for (const auto& g : list(answer, "generations")) {
    const auto& counters = part(g, "counters");
    const auto& durations = part(g, "durationsMs");
    table.add({flag(g, "live") ? "live" : "", number(g, "number"), number(g, "epoch"), number(g, "slot"),
               number(g, "programID"), number(counters, "judged"), number(counters, "allowed"),
               number(counters, "deniedIngress"), number(counters, "deniedEgress"),
               number(counters, "rejudged"), number(g, "checkPackets"), milliseconds(durations, "build"),
               milliseconds(durations, "fill"), milliseconds(durations, "load"),
               milliseconds(durations, "check"), milliseconds(durations, "swap"),
               time_with_age(text(g, "swappedAt"), now), text(g, "reason")});
  }
  return table.text();
}

std::string render_services(const json& answer) {
  if (!flag(answer, "synced")) return "Services are not known yet.\n";
  const auto ends = [](const json& backends) { return backends.empty() ? "none" : join(ends_of(backends)); };
  Table table({"SERVICE", "ADDRESS", "PORT", "PROTOCOL", "BACKENDS", "FROM OUTSIDE"});
  for (const auto& each : list(answer, "services"))
    table.add({text(each, "service"), text(each, "address"), number(each, "port"), text(each, "protocol"),
               ends(list(each, "backends")),
               !flag(each, "fromOutside") ? "-"
                                          : ends(list(each, "backendsFromOutside")) +
                                                (flag(each, "masquerade") ? " (masqueraded)" : "")});
  std::string out = table.text();
  for (const auto& each : list(answer, "rejected")) out += "Rejected: " + each.get<std::string>() + "\n";
  if (!flag(answer, "applied")) out += "Not all of this is in force: see the log of sluiced.\n";
  return out;
}

std::string render_service(const json& answer) {
  std::string out;
  for (const auto& each : list(answer, "services")) {
    Table table;
    const bool outside = flag(each, "fromOutside");
    table.add({"Service", text(each, "service")});
    table.add({"Address", fmt::format("{} {}", text(each, "protocol"), end_of(each, true))});
    add_lines(table, "Backends", uses_of(list(each, "backends")), "none");
    add_lines(table, "From outside", uses_of(list(each, "backendsFromOutside")),
              outside ? "none" : "not served");
    if (outside) table.add({"", flag(each, "masquerade") ? "masqueraded" : "the client's address is kept"});
    if (const auto ranges = list(each, "sourceRanges"); !ranges.empty())
      table.add({"Only from", join(ranges)});
    const auto affinity = each.find("affinitySeconds");
    table.add({"Affinity", affinity == each.end() || affinity->is_null()
                               ? "none"
                               : fmt::format("by client address, {} s", count(each, "affinitySeconds"))});
    out += (out.empty() ? "" : "\n") + table.text();
  }
  return out + (flag(answer, "applied") ? "" : "Not all of this is in force: see the log of sluiced.\n");
}

std::string render_connections(const json& answer) {
  const auto& connections = list(answer, "connections");
  if (connections.empty()) return "No such connections.\n";
  const auto end = [](const json& connection, const char* side) {
    const auto& each = part(connection, side);
    const auto pod = text(each, "pod");
    return end_of(each, has_ports(text(connection, "protocol"))) + (pod.empty() ? "" : " (" + pod + ")");
  };
  Table table({"PROTOCOL", "STATE", "FROM", "TO", "SERVICE", "MASQUERADED BY", "COUNTS FOR", "IDLE s",
               "EXPIRES IN s"});
  for (const auto& each : connections) {
    const bool ports = has_ports(text(each, "protocol"));
    table.add({text(each, "protocol"), text(each, "state"), end(each, "source"), end(each, "destination"),
               each.contains("service") ? end_of(part(each, "service"), ports) : "-",
               each.contains("masqueradePort") ? "port " + number(each, "masqueradePort") : "-",
               owner_of(part(each, "owner")), number(each, "idleSeconds"), number(each, "expiresInSeconds")});
  }
  const auto total = count(answer, "total");
  return table.text() +
         (total > connections.size()
              ? fmt::format("{} of {} connections; --limit shows more.\n", connections.size(), total)
              : "");
}

std::string render_flushed(const json& answer) {
  return fmt::format("{} connections forgotten.\n", count(answer, "flushed"));
}

std::string render_modules(const json& answer) {
  Table modules({"MODULE", "SLOT", "PROGRAM", "TAG", "INSTRUCTIONS", "MAPS"});
  for (const auto& m : list(answer, "modules"))
    modules.add({text(m, "name"), number(m, "slot"), number(m, "programID"), text(m, "tag"),
                 number(m, "instructions"), join(list(m, "mapIDs"), ",")});
  Table links({"INTERFACE", "IFINDEX", "LINK", "PROGRAM"});
  for (const auto& l : list(answer, "links"))
    links.add({or_dash(text(l, "interface")), number(l, "ifindex"),
               count(l, "linkID") == 0 ? "clsact" : number(l, "linkID"), number(l, "programID")});
  Table maps({"MAP", "ID", "MAX ENTRIES"});
  for (const auto& m : list(answer, "maps"))
    maps.add({text(m, "name"), number(m, "id"), number(m, "maxEntries")});
  return modules.text() + "\n" + links.text() + "\n" + maps.text();
}

std::string render_event(const json& event) {
  if (const auto error = text(event, "error"); !error.empty()) return "sluiced: " + error;
  const auto kind = text(event, "kind");
  if (kind == "lost")
    return fmt::format("({} events were lost: more came than could be sent)", count(event, "events"));
  // Of the widths only that of the reason is known to have an end; the longest has 21 letters.
  auto line = fmt::format("{}  {:<7}  {:<21}  {} {} -> {}  {} bytes, from {}, by {}", text(event, "time"),
                          kind, text(event, "reason"), text(event, "protocol"), party(event, "source"),
                          party(event, "destination"), count(event, "length"), text(event, "hook"),
                          text(event, "module"));
  if (const auto generation = count(event, "generation"); generation != 0)
    line += fmt::format(", generation {}", generation);
  if (kind == "drop") line += ": " + text(event, "reasonText");
  return line;
}

}  // namespace sluice::cli
