// SPDX-License-Identifier: Apache-2.0
// Port classes: ports that no rule of a table tells apart share one.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

namespace sluice::policy {

struct PortSpan {
  std::uint8_t protocol = 0;
  std::uint16_t first = 0;
  std::uint16_t last = 0;  // inclusive
  auto operator<=>(const PortSpan&) const = default;
};

struct PortRun {  // first … last of one protocol have one class, which is not 0
  std::uint8_t protocol = 0;
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  std::uint32_t port_class = 0;
  auto operator<=>(const PortRun&) const = default;
};

struct PortPrefix {  // the ports of `protocol` whose upper `bits` bits are those of `port`
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
  std::uint8_t bits = 0;
  std::uint32_t port_class = 0;
  auto operator<=>(const PortPrefix&) const = default;
};

struct PortClasses {
  // The same twice. As runs, by protocol and port; what is in none has class 0: the ports that are in no
  // span.
  std::vector<PortRun> runs;
  // And as prefixes, of which the longest gives a port's class; none: class 0. As few as possible.
  std::vector<PortPrefix> prefixes;
  std::vector<std::vector<std::uint32_t>> of_group;  // the classes that each group of spans is made of
  std::uint32_t count = 1;                           // classes are 0 … count - 1
};

// Groups that have each interval of ports, in all: what classify_ports() is to look at.
[[nodiscard]] std::uint64_t classification_cost(const std::vector<std::vector<PortSpan>>& groups);

[[nodiscard]] PortClasses classify_ports(const std::vector<std::vector<PortSpan>>& groups);

}  // namespace sluice::policy
