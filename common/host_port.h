// SPDX-License-Identifier: Apache-2.0
// A port of the node that leads to a pod (CNI conventions, capability portMappings), as the runtime says it
// to the CNI binary, that to the daemon, and the daemon to its record of the attachment.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/address.h"
#include "common/result.h"

namespace sluice {

struct HostPort {
  std::uint8_t protocol = 0;  // IANA number: TCP, UDP or SCTP
  std::uint16_t host_port = 0;
  std::uint16_t container_port = 0;
  Address host_ip;  // 0.0.0.0 or ::: every address of the node
  auto operator<=>(const HostPort&) const = default;

  [[nodiscard]] bool on_every_address() const;
  // Do both want one port of one address?
  [[nodiscard]] bool collides_with(const HostPort& other) const;
  [[nodiscard]] std::string to_string() const;  // "192.0.2.1:8080/TCP"
};

// A list of {"hostPort", "containerPort", "protocol", "hostIP"}; null is the empty list. Without a protocol,
// or with an empty one: TCP; without a hostIP, or with an empty one: every address.
[[nodiscard]] Result<std::vector<HostPort>> parse_host_ports(const nlohmann::json& list);
[[nodiscard]] nlohmann::json host_ports_json(const std::vector<HostPort>& ports);

}  // namespace sluice
