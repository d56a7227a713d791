// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/live.h"

namespace sluice::datapath {

Result<LiveStamp> LiveStamp::map(const RawMap& live) {
  static_assert(sizeof(sluice_live) == sizeof(Word));
  return SharedArray<Word>::map(live).map(
      [](SharedArray<Word>&& words) { return LiveStamp(std::move(words)); });
}

std::uint64_t LiveStamp::stamp() const { return live_[0].load(std::memory_order_acquire); }

void LiveStamp::publish(std::uint32_t generation, std::uint32_t epoch) const {
  live_[0].store(SLUICE_STAMP(generation, epoch), std::memory_order_release);
}

}  // namespace sluice::datapath
