// SPDX-License-Identifier: Apache-2.0
// What the plugin answers on standard output (CNI spec 1.1, section 5; the earlier formats in its older
// versions).
#pragma once

#include <string>
#include <vector>

#include "cni/config.h"
#include "cni/environment.h"
#include "cni/failure.h"
#include "cni/pod_network.h"
#include "common/netlink.h"

namespace sluice::cni {

[[nodiscard]] std::string add_result(Version version, const Environment& environment,
                                     const PodNetwork& network, bool with_default_route);
// Of the loopback plugin, with lo's addresses; an earlier plugin's result is passed on.
[[nodiscard]] std::string loopback_result(const Config& config, const Environment& environment,
                                          const std::vector<LinkAddress>& addresses);
// `asked`: the caller's version, as it was written.
[[nodiscard]] std::string version_result(const std::string& asked, Plugin plugin);
[[nodiscard]] std::string error_result(Version version, const Failure& failure);

}  // namespace sluice::cni
