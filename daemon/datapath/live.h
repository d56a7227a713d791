// SPDX-License-Identifier: Apache-2.0
// The published stamp, in memory shared with the programs.
#pragma once

#include <cstdint>

#include "bpf/abi.h"
#include "common/result.h"
#include "daemon/datapath/map.h"
#include "daemon/datapath/shared_array.h"

namespace sluice::datapath {

class LiveStamp {
 public:
  [[nodiscard]] static Result<LiveStamp> map(const RawMap& live);

  [[nodiscard]] std::uint64_t stamp() const;
  [[nodiscard]] std::uint32_t generation() const { return SLUICE_STAMP_GENERATION(stamp()); }
  [[nodiscard]] std::uint32_t epoch() const { return static_cast<std::uint32_t>(stamp()); }
  // Everything written to maps before is visible to a program that reads this stamp.
  void publish(std::uint32_t generation, std::uint32_t epoch) const;

 private:
  using Word = decltype(sluice_live::stamp);
  explicit LiveStamp(SharedArray<Word> live) : live_(std::move(live)) {}
  SharedArray<Word> live_;
};

}  // namespace sluice::datapath
