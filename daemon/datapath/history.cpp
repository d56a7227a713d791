// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/history.h"

namespace sluice::datapath {

namespace {
constexpr std::size_t kSwapsKept = 16;
}

Result<void> History::recycle(std::uint32_t slot) {
  const std::lock_guard lock(mutex_);
  auto counted = counters_.lookup(slot);
  if (!counted) return tl::unexpected(counted.error());
  for (auto& item : items_) {
    if (!item.counting || item.status.slot != slot) continue;
    item.status.counters = sum(*counted);
    item.counting = false;
  }
  return counters_.clear(slot);
}

void History::add(GenerationStatus status) {
  const std::lock_guard lock(mutex_);
  for (auto& item : items_) item.status.live = false;
  status.live = true;
  items_.push_front({std::move(status)});
  if (items_.size() > kSwapsKept) items_.pop_back();
}

std::vector<GenerationStatus> History::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<GenerationStatus> list;
  for (const auto& item : items_) {
    auto& status = list.emplace_back(item.status);
    if (status.live) status.epoch = live_.epoch();
    if (!item.counting) continue;
    if (auto counted = counters_.lookup(status.slot)) status.counters = sum(*counted);
  }
  return list;
}

}  // namespace sluice::datapath
