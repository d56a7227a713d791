// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/path_filters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>

namespace sluice::controller {

unsigned path_filter(const std::string& name) {
  std::ifstream file("/proc/sys/net/ipv4/conf/" + name + "/rp_filter");
  unsigned value = 0;
  file >> value;
  return value;
}

std::string strict_filters(const std::vector<datapath::NodeConfig::Uplink>& uplinks,
                           const std::function<unsigned(const std::string& name)>& filter_of) {
  if (uplinks.size() < 2) return "";
  const auto of_all = filter_of("all");
  std::vector<std::string> strict, remedies;
  for (const auto& uplink : uplinks) {
    if (std::max(of_all, filter_of(uplink.name)) != 1) continue;  // as the kernel has it
    strict.push_back(uplink.name);
    remedies.push_back(fmt::format("net/ipv4/conf/{}/rp_filter=2", uplink.name));
  }
  if (strict.empty()) return "";
  return fmt::format(
      "reverse path filters are strict on {}: what is for the node itself is dropped there if the node would "
      "answer by another interface, tunnel packets of other nodes included; to let it in: sysctl -w {}",
      fmt::join(strict, ", "), fmt::join(remedies, " "));
}

}  // namespace sluice::controller
