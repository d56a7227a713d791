// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <mutex>
#include <vector>

#include "daemon/datapath/datapath.h"
#include "daemon/datapath/live.h"
#include "daemon/datapath/map.h"

namespace sluice::datapath {

// The last generations and their counters. Thread-safe.
class History {
 public:
  History(const PerCpuArray<sluice_generation_stats>& counters, const LiveStamp& live)
      : counters_(counters), live_(live) {}

  // The slot is about to be used again: what was counted under it is kept, the kernel's counters start at
  // zero.
  [[nodiscard]] Result<void> recycle(std::uint32_t slot);
  // Is live from now on.
  void add(GenerationStatus status);
  [[nodiscard]] std::vector<GenerationStatus> list() const;

 private:
  struct Item {
    GenerationStatus status;
    bool counting = true;  // its slot's counters are still its own
  };
  const PerCpuArray<sluice_generation_stats>& counters_;
  const LiveStamp& live_;
  mutable std::mutex mutex_;
  std::deque<Item> items_;  // newest first
};

}  // namespace sluice::datapath
