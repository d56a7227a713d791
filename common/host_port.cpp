// SPDX-License-Identifier: Apache-2.0
#include "common/host_port.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/json_member.h"

namespace sluice {

using nlohmann::json;

namespace {

constexpr std::array<std::pair<const char*, std::uint8_t>, 3> kPortProtocols{
    {{"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"sctp", IPPROTO_SCTP}}};

std::string shown(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

Result<std::uint16_t> port_of(const json& entry, const char* key) {
  const auto found = find_member(entry, key);
  if (found == entry.end()) return failure("it has no '{}'", key);
  const auto number = found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
  if (number == 0 || number > std::numeric_limits<std::uint16_t>::max())
    return failure("'{}' must be a port, 1 to 65535, and not {}", key, shown(*found));
  return static_cast<std::uint16_t>(number);
}

// Absent and null mean the same as empty.
Result<std::string> text_of(const json& entry, const char* key) {
  const auto found = find_member(entry, key);
  if (found == entry.end() || found->is_null()) return std::string();
  if (!found->is_string()) return failure("'{}' must be a string and not {}", key, shown(*found));
  return found->get<std::string>();
}

Result<std::uint8_t> protocol_of(const json& entry) {
  auto text = text_of(entry, "protocol");
  if (!text) return tl::unexpected(text.error());
  if (text->empty()) return std::uint8_t{IPPROTO_TCP};
  std::ranges::transform(*text, text->begin(), [](unsigned char c) { return std::tolower(c); });
  for (const auto& [name, number] : kPortProtocols)
    if (*text == name) return number;
  return failure("'protocol' must be tcp, udp or sctp and not {}", shown(*text));
}

Result<Address> host_ip_of(const json& entry) {
  const auto text = text_of(entry, "hostIP");
  if (!text) return tl::unexpected(text.error());
  if (text->empty()) return Address::from_v4(0);
  auto address = Address::parse(*text);
  if (!address) return failure("'hostIP' must be an IP address and not {}", shown(*text));
  return *address;
}

Result<HostPort> parse_host_port(const json& entry) {
  if (!entry.is_object()) return failure("it is no object but {}", shown(entry));
  HostPort port;
  const auto host_port = port_of(entry, "hostPort");
  if (!host_port) return tl::unexpected(host_port.error());
  const auto container_port = port_of(entry, "containerPort");
  if (!container_port) return tl::unexpected(container_port.error());
  const auto protocol = protocol_of(entry);
  if (!protocol) return tl::unexpected(protocol.error());
  const auto host_ip = host_ip_of(entry);
  if (!host_ip) return tl::unexpected(host_ip.error());
  return HostPort{*protocol, *host_port, *container_port, *host_ip};
}

const char* name_of(std::uint8_t protocol) {
  for (const auto& [name, number] : kPortProtocols)
    if (number == protocol) return name;
  return "";
}

}  // namespace

bool HostPort::on_every_address() const { return host_ip == Address::from_v4(0) || host_ip == Address(); }

bool HostPort::collides_with(const HostPort& other) const {
  return protocol == other.protocol && host_port == other.host_port &&
         (host_ip == other.host_ip || on_every_address() || other.on_every_address());
}

std::string HostPort::to_string() const {
  std::string protocol_name = name_of(protocol);
  std::ranges::transform(protocol_name, protocol_name.begin(),
                         [](unsigned char c) { return std::toupper(c); });
  const auto address = on_every_address() ? "*" : host_ip.to_string();
  return fmt::format("{}:{}/{}", host_ip.is_v4() || on_every_address() ? address : "[" + address + "]",
                     host_port, protocol_name);
}

Result<std::vector<HostPort>> parse_host_ports(const json& list) {
  std::vector<HostPort> ports;
  if (list.is_null()) return ports;
  if (!list.is_array()) return failure("it must be a list and not {}", shown(list));
  for (const auto& entry : list) {
    auto port = parse_host_port(entry);
    if (!port) return failure("entry {}: {}", ports.size(), port.error().message);
    ports.push_back(*port);
  }
  return ports;
}

json host_ports_json(const std::vector<HostPort>& ports) {
  auto list = json::array();
  for (const auto& port : ports)
    list.push_back({{"hostPort", port.host_port},
                    {"containerPort", port.container_port},
                    {"protocol", name_of(port.protocol)},
                    {"hostIP", port.host_ip.to_string()}});
  return list;
}

}  // namespace sluice
