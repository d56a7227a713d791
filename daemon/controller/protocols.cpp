// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/protocols.h"

#include <netinet/in.h>
#include <strings.h>

#include <charconv>
#include <utility>

namespace sluice::controller {

namespace {
constexpr std::pair<std::uint8_t, const char*> kNames[] = {
    {IPPROTO_ICMP, "ICMP"}, {IPPROTO_TCP, "TCP"}, {IPPROTO_UDP, "UDP"}, {IPPROTO_SCTP, "SCTP"}};
}  // namespace

std::string protocol_name(std::uint8_t number) {
  for (const auto& [known, name] : kNames)
    if (known == number) return name;
  return std::to_string(number);
}

std::optional<std::uint8_t> protocol_number(std::string_view name) {
  for (const auto& [number, known] : kNames)
    if (strcasecmp(known, std::string(name).c_str()) == 0) return number;
  std::uint8_t number = 0;
  const auto* end = name.data() + name.size();
  const auto read = std::from_chars(name.data(), end, number);
  if (name.empty() || read.ec != std::errc{} || read.ptr != end) return std::nullopt;
  return number;
}

}  // namespace sluice::controller
