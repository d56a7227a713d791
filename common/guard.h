// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

namespace sluice {

// Undoes a step unless the whole succeeded: runs the action at the end of the scope, until dismissed.
template <typename Action>
class Guard {
 public:
  explicit Guard(Action action) : action_(std::move(action)) {}
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() {
    if (armed_) action_();
  }
  void dismiss() { armed_ = false; }

 private:
  Action action_;
  bool armed_ = true;
};

}  // namespace sluice
