// SPDX-License-Identifier: Apache-2.0
// Pools, one object for each content in use: whoever has the same backends has the same pool, and a table is
// computed only when its backends are new.
#pragma once

#include <cstddef>
#include <memory>
#include <unordered_map>
#include <vector>

#include "daemon/service/table.h"

namespace sluice::service {

class Pools {
 public:
  // In any order and with repetitions. Of more than kMaxBackends the first in order are used.
  [[nodiscard]] std::shared_ptr<const Pool> of(std::vector<Backend> backends);

 private:
  std::unordered_multimap<std::size_t, std::weak_ptr<const Pool>> known_;  // by hash of the backends
  std::size_t sweep_at_ = 64;
};

}  // namespace sluice::service
