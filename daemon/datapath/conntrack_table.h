// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "daemon/datapath/maps.h"
#include "daemon/datapath/modules.h"

namespace sluice::datapath {

// Groups of conntrack's sets for so many entries.
[[nodiscard]] constexpr std::uint32_t conntrack_groups(std::uint32_t entries) {
  return (entries + SLUICE_CT_GROUP_ENTRIES - 1) / SLUICE_CT_GROUP_ENTRIES;
}

// Groups that both maps have. They are made one after the other, perhaps by two daemons with different
// options.
[[nodiscard]] inline std::uint32_t conntrack_groups(const Maps& maps) {
  return std::min(maps.conntrack_groups.raw().max_entries(), maps.conntrack.raw().max_entries());
}

// The entries of conntrack as user space reaches them: read without a lock, in memory that is shared with the
// programs, and removed by the program `sweep`.
class ConntrackTable {
 public:
  struct Found {
    std::uint32_t set;  // as struct sluice_sweep has it
    std::uint16_t way;
    sluice_ct_key key;
    sluice_ct_entry entry;
  };

  ConntrackTable(const Maps& maps, const Program& sweep) : maps_(maps), sweep_(sweep) {}

  // Entries that it has room for.
  [[nodiscard]] std::uint32_t room() const { return conntrack_groups(maps_) * SLUICE_CT_GROUP_ENTRIES; }
  // Shows the entries of the time. What changes hands meanwhile may be shown with a key and an entry that do
  // not belong together.
  [[nodiscard]] Result<void> visit(const std::function<Result<void>(const Found&)>& visitor) const;
  enum class Renewed { kStay, kGo };
  // Removes those that are `over` and still as they were found: of the same connection, and, with kStay, not
  // renewed since. `told(found, removed)` hears of each entry.
  [[nodiscard]] Result<void> sweep(const std::function<bool(const Found&)>& over, Renewed renewed,
                                   const std::function<void(const Found&, bool)>& told) const;

 private:
  [[nodiscard]] Result<void> remove(const std::vector<Found>& some, Renewed renewed,
                                    const std::function<void(const Found&, bool)>& told) const;

  const Maps& maps_;
  const Program& sweep_;
};

}  // namespace sluice::datapath
