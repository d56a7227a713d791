// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/fd.h"
#include "common/result.h"

namespace sluice::install {

// Tells, from a thread of its own, that something has changed in one of the folders. It does so at most once
// a second: where two programs undo each other's changes, they do not do it all the time. What this process
// could not write to the end counts not: on a full disk it would wake itself for ever.
class FolderWatch {
 public:
  [[nodiscard]] static Result<std::unique_ptr<FolderWatch>> start(const std::vector<std::string>& folders,
                                                                  std::function<void()> changed);
  FolderWatch(const FolderWatch&) = delete;
  FolderWatch& operator=(const FolderWatch&) = delete;
  ~FolderWatch();

 private:
  FolderWatch(Fd events, Fd stop, std::function<void()> changed);
  void work() const;
  // True: one of the events that there are counts.
  [[nodiscard]] bool take_events() const;
  // False: the watch ends.
  [[nodiscard]] bool wait(bool for_events, int milliseconds) const;

  Fd events_, stop_;
  std::function<void()> changed_;
  std::thread thread_;
};

}  // namespace sluice::install
