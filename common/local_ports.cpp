// SPDX-License-Identifier: Apache-2.0
#include "common/local_ports.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>

namespace sluice {

namespace {

// Reads "8080,9000-9010" until something else comes.
std::vector<LocalPorts::Range> ranges_of(std::string_view text) {
  std::vector<LocalPorts::Range> ranges;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    LocalPorts::Range range;
    auto read = std::from_chars(at, end, range.first);
    if (read.ec != std::errc{}) break;
    range.last = range.first;
    if (read.ptr != end && *read.ptr == '-') read = std::from_chars(read.ptr + 1, end, range.last);
    if (read.ec != std::errc{}) break;
    ranges.push_back(range);
    at = read.ptr;
    if (at != end && *at == ',') ++at;
  }
  return ranges;
}

std::string sysctl(const char* name) {
  std::ifstream file(std::string("/proc/sys/net/ipv4/") + name);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

LocalPorts parse_local_ports(std::string_view range, std::string_view reserved) {
  LocalPorts ports;
  std::string spaced(range);
  std::ranges::replace_if(
      spaced, [](char c) { return c == '\t' || c == ' '; }, ',');
  if (const auto ends = ranges_of(spaced); ends.size() == 2 && ends[0].first <= ends[1].first)
    ports.range = {ends[0].first, ends[1].first};
  ports.reserved = ranges_of(reserved);
  std::ranges::sort(ports.reserved, {}, &LocalPorts::Range::first);
  return ports;
}

LocalPorts local_ports() {
  return parse_local_ports(sysctl("ip_local_port_range"), sysctl("ip_local_reserved_ports"));
}

std::vector<LocalPorts::Range> LocalPorts::given() const {
  std::vector<Range> given;
  std::uint32_t next = range.first;
  const auto add = [&](std::uint32_t last) {
    if (next <= last) given.push_back({static_cast<std::uint16_t>(next), static_cast<std::uint16_t>(last)});
  };
  for (const auto& kept : reserved) {
    if (kept.last < next || kept.first > range.last) continue;
    if (kept.first > next) add(kept.first - 1U);
    next = kept.last + 1U;
  }
  add(range.last);
  return given;
}

}  // namespace sluice
