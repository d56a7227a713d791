// SPDX-License-Identifier: Apache-2.0
// What is in the kernel, by the pins. Thread-safe: reads no state of the datapath's.
#pragma once

#include <vector>

#include "daemon/datapath/attach.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/maps.h"
#include "daemon/datapath/pins.h"
#include "daemon/datapath/settings.h"

namespace sluice::datapath {

[[nodiscard]] Result<std::vector<ModuleStatus>> module_status(const Pins& pins, const Maps& maps);
[[nodiscard]] Result<std::vector<LinkStatus>> link_status(const Maps& maps, const Settings& settings,
                                                          const Attacher& attacher);
[[nodiscard]] Result<std::vector<MapStatus>> map_status(const Pins& pins);
// Differences between the slots of `modules` and the pinned programs, in words.
[[nodiscard]] Result<void> audit_modules(const Pins& pins, const Maps& maps,
                                         std::vector<std::string>& differences);

}  // namespace sluice::datapath
