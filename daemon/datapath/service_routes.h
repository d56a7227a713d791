// SPDX-License-Identifier: Apache-2.0
// The node's own way to cluster IPs: what its stack sends to them goes to sluice_host, hence to `nat`. In a
// routing table of their own, that only the node's own packets look into: what comes to the node from outside
// for a cluster IP is not led inside, past the rules that hold for where it came from.
#pragma once

#include <string>
#include <vector>

#include "common/address.h"
#include "common/netlink.h"
#include "common/result.h"
#include "daemon/datapath/settings.h"
#include "daemon/service/table.h"

namespace sluice::datapath {

class ServiceRoutes {
 public:
  explicit ServiceRoutes(const Settings& settings) : settings_(settings) {}

  [[nodiscard]] Result<void> apply(NetlinkSocket& netlink, const service::Table& table);
  // After the node's devices have changed.
  [[nodiscard]] Result<void> refresh(NetlinkSocket& netlink);
  [[nodiscard]] Result<void> audit(NetlinkSocket& netlink, std::vector<std::string>& differences) const;

 private:
  [[nodiscard]] Result<std::vector<Route>> wanted() const;
  [[nodiscard]] Result<void> write(NetlinkSocket& netlink);

  const Settings& settings_;
  std::vector<Address> addresses_;  // sorted
  std::vector<Route> written_;      // by destination; as of the last time that all was written
  bool known_ = false;              // addresses_ have been told
};

}  // namespace sluice::datapath
