// SPDX-License-Identifier: Apache-2.0
// The kernel's reverse path filters, which nodes with several uplinks can be in the way of.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/datapath/datapath.h"

namespace sluice::controller {

// net.ipv4.conf.NAME.rp_filter: 0 off, 1 strict, 2 loose.
[[nodiscard]] unsigned path_filter(const std::string& name);

// Which uplinks drop what the node would not answer by them, and what to do; "": none does, or there is one
// only.
[[nodiscard]] std::string strict_filters(const std::vector<datapath::NodeConfig::Uplink>& uplinks,
                                         const std::function<unsigned(const std::string& name)>& filter_of);

}  // namespace sluice::controller
