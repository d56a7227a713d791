// SPDX-License-Identifier: Apache-2.0
// Moves pods' links from clsact, by which ADD attaches them, to tcx, on a thread of its own: each takes a
// grace period, 5 to 40 ms, in which nobody else can change an interface (the RTNL lock). So a move waits for
// a time without ADDs and DELs, however long that takes to come: by clsact everything works as well.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "common/guard.h"

namespace sluice::controller {

class LinkMover {
 public:
  // Pods of a rollout come and go a second or so apart.
  static constexpr std::chrono::milliseconds kPause{2000};

  // `move` is called on the mover's thread, for one interface at a time.
  explicit LinkMover(std::function<void(std::uint32_t ifindex)> move,
                     std::chrono::milliseconds pause = kPause);
  LinkMover(const LinkMover&) = delete;
  LinkMover& operator=(const LinkMover&) = delete;
  ~LinkMover() { stop(); }

  // All that are to be moved now; what was offered before and is not among them is not any more.
  void offer(std::vector<std::uint32_t> ifindexes);
  // No move begins while what it returns lives, nor some time after: an ADD or a DEL is under way.
  [[nodiscard]] auto hold() {
    begin_hold();
    return Guard([this] { end_hold(); });
  }
  // A move that is under way is finished first.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  // Between two moves: of what an ADD changes before it asks the daemon, one step at most has to wait.
  static constexpr std::chrono::milliseconds kBetween{100};

  void work();
  void begin_hold();
  void end_hold();

  const std::function<void(std::uint32_t)> move_;
  const std::chrono::milliseconds pause_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint32_t> offered_;
  std::uint32_t moving_ = 0;  // 0: none
  unsigned holds_ = 0;
  Clock::time_point not_before_ = Clock::now() + pause_;  // the start makes up for ADDs and DELs, too
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::controller
