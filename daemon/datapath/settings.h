// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>

#include "bpf/abi.h"
#include "daemon/datapath/map.h"

namespace sluice::datapath {

// The one element of `config`, which the controller's thread (the node) and monitors' threads (flags) both
// change.
class Settings {
 public:
  explicit Settings(Map<std::uint32_t, sluice_config> map) : map_(std::move(map)) {}

  [[nodiscard]] Result<sluice_config> get() const {
    return map_.lookup(0).map(
        [](const std::optional<sluice_config>& found) { return found.value_or(sluice_config{}); });
  }
  // Writes only what `change` changes: the programs read while it is copied.
  template <typename Change>
  [[nodiscard]] Result<void> change(const Change& edit) const {
    const std::lock_guard lock(mutex_);
    auto config = get();
    if (!config) return tl::unexpected(config.error());
    auto changed = *config;
    edit(changed);
    if (std::memcmp(&changed, &*config, sizeof changed) == 0) return {};
    return map_.update(0, changed);
  }

 private:
  Map<std::uint32_t, sluice_config> map_;
  mutable std::mutex mutex_;
};

}  // namespace sluice::datapath
