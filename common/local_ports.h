// SPDX-License-Identifier: Apache-2.0
// The ports that the kernel gives to the connections which the node's own processes open.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice {

struct LocalPorts {
  struct Range {
    std::uint16_t first = 0, last = 0;  // both included
    [[nodiscard]] bool overlaps(const Range& other) const {
      return first <= other.last && other.first <= last;
    }
    bool operator==(const Range&) const = default;
  };
  Range range{32768, 60999};    // net.ipv4.ip_local_port_range; Linux' default if it cannot be read
  std::vector<Range> reserved;  // net.ipv4.ip_local_reserved_ports: never given out
  // Of the range, what is given out: in order.
  [[nodiscard]] std::vector<Range> given() const;
  bool operator==(const LocalPorts&) const = default;
};

// From what the two files say: "32768\t60999" and "8080,9000-9010".
[[nodiscard]] LocalPorts parse_local_ports(std::string_view range, std::string_view reserved);
// Of the network namespace that the caller is in.
[[nodiscard]] LocalPorts local_ports();

}  // namespace sluice
