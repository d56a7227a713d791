// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "common/fd.h"
#include "common/result.h"

namespace sluice::datapath {

// Tells when every packet that is inside a program at some moment has left it: an RCU grace period, some
// milliseconds, tens of them on a busy machine. A thread of its own waits for it, so that who needs to know
// later has seldom to wait.
class GracePeriod {
 public:
  using Ticket = std::uint64_t;

  [[nodiscard]] static Result<std::unique_ptr<GracePeriod>> make();
  GracePeriod(const GracePeriod&) = delete;
  GracePeriod& operator=(const GracePeriod&) = delete;
  ~GracePeriod();  // waits for the period that is under way

  // Names the packets that are inside a program now.
  [[nodiscard]] Ticket begin();
  // Returns once they all have left.
  [[nodiscard]] Result<void> wait(Ticket ticket);

 private:
  GracePeriod(Fd inner, Fd outer);
  [[nodiscard]] Result<void> pass() const;
  void loop();

  const Fd inner_;
  const Fd outer_;
  std::mutex mutex_;
  std::condition_variable asked_changed_, tried_changed_;
  // Each ticket is covered by any period that began after it was given.
  Ticket asked_ = 0, tried_ = 0, passed_ = 0;
  Error error_;  // of the last try, where tried_ is beyond passed_
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace sluice::datapath
