// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <set>

#include "daemon/datapath/datapath.h"
#include "daemon/datapath/maps.h"
#include "daemon/service/table.h"

namespace sluice::datapath {

// Removes connections that outlived their idle lifetime: the programs only notice one when its tuple comes
// again.
class ConntrackGc {
 public:
  explicit ConntrackGc(const Maps& maps) : maps_(maps) {
    status_.max_entries = maps.conntrack.raw().max_entries();
  }
  [[nodiscard]] Result<void> collect();
  // Ends the UDP connections to a Service whose backend is not that any more: nothing in them tells the
  // client to begin anew, as a reset does.
  using Gone = std::map<service::Frontend, std::set<service::Backend>>;
  [[nodiscard]] Result<void> forget(const Gone& gone);
  [[nodiscard]] ConntrackStatus status() const;  // thread-safe

 private:
  const Maps& maps_;
  mutable std::mutex mutex_;
  ConntrackStatus status_;
};

}  // namespace sluice::datapath
