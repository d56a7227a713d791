// SPDX-License-Identifier: Apache-2.0
// The sets of prefixes that Services with loadBalancerSourceRanges refer to: `service_sources`.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/address.h"
#include "common/result.h"
#include "daemon/datapath/grace_period.h"
#include "daemon/datapath/maps.h"

namespace sluice::datapath {

class ServiceSources {
 public:
  ServiceSources(const Maps& maps, GracePeriod& grace) : maps_(maps), grace_(grace) {}

  // The set's number; 0 for no ranges: everybody. A hash of the ranges: the same after every start.
  [[nodiscard]] static std::uint64_t number_of(const std::vector<Prefix>& ranges);
  // Learns what an earlier daemon left. It stays until collect().
  [[nodiscard]] Result<void> adopt();
  // Once for each element that refers to the set.
  [[nodiscard]] Result<void> hold(const std::vector<Prefix>& ranges);
  void let_go(std::uint64_t number);
  // Takes away the sets that nothing refers to, once no packet can be looking for them.
  [[nodiscard]] Result<void> collect();
  [[nodiscard]] Result<void> audit(std::vector<std::string>& differences) const;

 private:
  struct Set {
    std::vector<sluice_source_key> keys;  // in the map
    unsigned users = 0;
    GracePeriod::Ticket ticket = 0;  // when the last user went
  };

  const Maps& maps_;
  GracePeriod& grace_;
  std::map<std::uint64_t, Set> sets_;
};

}  // namespace sluice::datapath
