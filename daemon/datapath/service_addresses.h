// SPDX-License-Identifier: Apache-2.0
// The addresses that belong to Services (cluster IPs), whatever the port: they lead to Services and nowhere
// else.
// - What the node's own stack sends there goes to sluice_host, hence to `nat`: by routes in a table that only
// the
//   node's own packets look into, so that what comes from outside is not led inside, past the rules that hold
//   for where it came from.
// - What the stack would forward there is unreachable: by routes in another table. Else a packet from outside
// would
//   go back to the router that sent it, and so on until its time to live is over.
// - What comes to `nat` for none of the Services' ports is refused there.
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

  [[nodiscard]] Result<void> apply(NetlinkSocket& netlink, const service::Table& table);
  // After the node's devices have changed.
  [[nodiscard]] Result<void> refresh(NetlinkSocket& netlink);
  [[nodiscard]] Result<void> audit(NetlinkSocket& netlink, std::vector<std::string>& differences) const;

 private:
  [[nodiscard]] Result<std::vector<Prefix>> marked() const;  // what the map says, sorted
  [[nodiscard]] Result<std::vector<Route>> wanted_routes() const;
  [[nodiscard]] Result<void> write_map();
  [[nodiscard]] Result<void> write_routes(NetlinkSocket& netlink);

  const Maps& maps_;
  const Settings& settings_;
  std::vector<Prefix> addresses_;              // sorted
  std::optional<std::vector<Prefix>> marked_;  // in the map; none: to be asked of the kernel
  std::vector<Route> written_;                 // sorted; as of the last time that all was written
  bool known_ = false;                         // addresses_ have been told
};

}  // namespace sluice::datapath
