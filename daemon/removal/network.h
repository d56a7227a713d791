// SPDX-License-Identifier: Apache-2.0
// What Sluice made in the node's network stack. What is gone already is no error.
#pragma once

#include "common/netlink.h"
#include "daemon/removal/report.h"

namespace sluice::removal {

// The host's ends of pods' links, and by that the pods' interfaces.
void remove_pod_links(NetlinkSocket& netlink, Report& report);
// On every interface, whatever the daemon was told of uplinks.
void remove_filters(NetlinkSocket& netlink, Report& report);
void remove_rules_and_routes(NetlinkSocket& netlink, Report& report);
void remove_devices(NetlinkSocket& netlink, Report& report);

}  // namespace sluice::removal
