// SPDX-License-Identifier: Apache-2.0
// The addresses that belong to Services, whatever the port: they lead to Services and nowhere else. These are
// the ServiceCIDRs, and the cluster IPs that are in none of them (before Kubernetes v1.33 there are no such
// objects).
// What the node's own stack sends there goes to sluice_host, hence to `nat`. The routes are in a table that
// only the node's own packets look into: what comes from outside is not led inside, past the rules that hold
// for where it came from. What the stack would forward there is unreachable, by routes in another table.
// Without them a packet from outside would go back to the router that sent it, and so on until its time to
// live is over. What comes to `nat` for none of the Services' ports is refused there.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/address.h"
#include "common/netlink.h"
#include "common/result.h"
#include "daemon/datapath/maps.h"
#include "daemon/datapath/settings.h"
#include "daemon/service/table.h"

namespace sluice::datapath {

class ServiceAddresses {
 public:
  ServiceAddresses(const Maps& maps, const Settings& settings) : maps_(maps), settings_(settings) {}

  [[nodiscard]] Result<void> apply(NetlinkSocket& netlink, const service::Table& table,
                                   const std::vector<Prefix>& ranges);
  // After the node's devices have changed.
  [[nodiscard]] Result<void> refresh(NetlinkSocket& netlink);
  // Somebody changed what was written: the next refresh() asks what is there.
  void forget_written() {
    written_.clear();
    marked_.reset();
  }
  [[nodiscard]] Result<void> audit(NetlinkSocket& netlink, std::vector<std::string>& differences) const;

 private:
  [[nodiscard]] Result<std::vector<Prefix>> addresses() const;
  [[nodiscard]] Result<std::vector<Prefix>> marked() const;  // what the map says, sorted
  [[nodiscard]] Result<std::vector<Route>> wanted_routes() const;
  [[nodiscard]] Result<void> write_map();
  [[nodiscard]] Result<void> write_routes(NetlinkSocket& netlink);

  const Maps& maps_;
  const Settings& settings_;
  std::vector<Prefix> ranges_, hosts_;         // as told
  std::vector<Prefix> addresses_;              // what of them is in force; sorted
  std::optional<std::vector<Prefix>> marked_;  // in the map; none: to be asked of the kernel
  std::vector<Route> written_;                 // sorted; as of the last time that all was written
  bool known_ = false;                         // ranges_ and hosts_ have been told
};

}  // namespace sluice::datapath
