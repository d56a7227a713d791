// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>

#include "daemon/datapath/datapath.h"
#include "daemon/datapath/maps.h"

namespace sluice::datapath {

// Removes connections that outlived their idle lifetime: the programs only notice one when its tuple comes
// again.
class ConntrackGc {
 public:
  explicit ConntrackGc(const Maps& maps) : maps_(maps) {
    status_.max_entries = maps.conntrack.raw().max_entries();
  }
  [[nodiscard]] Result<void> collect();
  [[nodiscard]] ConntrackStatus status() const;  // thread-safe

 private:
  const Maps& maps_;
  mutable std::mutex mutex_;
  ConntrackStatus status_;
};

}  // namespace sluice::datapath
