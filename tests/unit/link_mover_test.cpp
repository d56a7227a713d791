// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/link_mover.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace sluice::controller {
namespace {

using namespace std::chrono_literals;

// What was moved, in order; the mover's thread stands still in a move while `open` is false.
class Moves {
 public:
  void move(std::uint32_t ifindex) {
    std::unique_lock lock(mutex_);
    begun_.push_back(ifindex);
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void open(bool value) {
    const std::lock_guard lock(mutex_);
    open_ = value;
    changed_.notify_all();
  }
  std::vector<std::uint32_t> wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 10s, [&] { return begun_.size() >= count; });
    return begun_;
  }
  std::vector<std::uint32_t> begun() { return wait_for(0); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint32_t> begun_;
  bool open_ = true;
};

TEST(LinkMover, NothingIsMovedWhileAnAddOrDelIsUnderWayAndShortlyAfter) {
  Moves moves;
  LinkMover mover([&](std::uint32_t ifindex) { moves.move(ifindex); }, 100ms);
  auto begin = std::chrono::steady_clock::now();
  {
    const auto one = mover.hold();
    {
      const auto other = mover.hold();
      mover.offer({7});
    }
    std::this_thread::sleep_for(300ms);
    EXPECT_EQ(moves.begun().size(), 0U);
    begin = std::chrono::steady_clock::now();
  }
  EXPECT_EQ(moves.wait_for(1), std::vector<std::uint32_t>{7});
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 100ms);
}

TEST(LinkMover, OneAtATimeAndNoneTwice) {
  Moves moves;
  LinkMover mover([&](std::uint32_t ifindex) { moves.move(ifindex); }, 1ms);
  moves.open(false);
  mover.offer({8, 7});
  EXPECT_EQ(moves.wait_for(1), std::vector<std::uint32_t>{7});
  mover.offer({9, 8, 7});  // 7 is under way
  mover.offer({8, 7});     // 9 is no more
  std::this_thread::sleep_for(200ms);
  EXPECT_EQ(moves.begun().size(), 1U);
  moves.open(true);
  EXPECT_EQ(moves.wait_for(2), (std::vector<std::uint32_t>{7, 8}));
  mover.stop();
  EXPECT_EQ(moves.begun().size(), 2U);
}

TEST(LinkMover, WhatWaitsKeepsNobodyFromStopping) {
  Moves moves;
  LinkMover mover([&](std::uint32_t ifindex) { moves.move(ifindex); }, 1h);
  mover.offer({7});
  const auto held = mover.hold();
  mover.stop();
  EXPECT_EQ(moves.begun().size(), 0U);
}

}  // namespace
}  // namespace sluice::controller
