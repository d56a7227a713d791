// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <spdlog/spdlog.h>

#include <string>

#include "common/result.h"

namespace sluice::removal {

// Tells in the log what was removed and what was not. One thing that stays does not keep the others.
class Report {
 public:
  void removed(const std::string& what) {
    ++removed_;
    spdlog::info("removed {}", what);
  }
  void failed(const Error& error) {
    ++failed_;
    spdlog::error("{}", error.message);
  }
  void add(const Result<void>& done, const std::string& what) { done ? removed(what) : failed(done.error()); }

  [[nodiscard]] std::size_t removals() const { return removed_; }
  [[nodiscard]] std::size_t failures() const { return failed_; }

 private:
  std::size_t removed_ = 0;
  std::size_t failed_ = 0;
};

}  // namespace sluice::removal
