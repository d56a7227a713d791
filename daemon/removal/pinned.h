// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "daemon/removal/report.h"

namespace sluice::removal {

// What is pinned in <bpffs>/sluice, one folder below for each layout of pins that a build on this node had.
class Pinned {
 public:
  explicit Pinned(const std::string& bpffs) : bpffs_(bpffs), root_(bpffs + "/sluice") {}

  [[nodiscard]] std::vector<std::string> layouts() const;  // paths
  // The folder of that name in each layout. What is attached there is detached when this returns.
  void remove(const std::string& folder, Report& report) const;
  void remove_rest(Report& report) const;

 private:
  std::string bpffs_;
  std::string root_;
};

}  // namespace sluice::removal
