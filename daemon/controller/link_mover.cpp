// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/link_mover.h"

#include <algorithm>
#include <utility>

namespace sluice::controller {

LinkMover::LinkMover(std::function<void(std::uint32_t)> move, std::chrono::milliseconds pause)
    : move_(std::move(move)), pause_(pause), thread_([this] { work(); }) {}

void LinkMover::offer(std::vector<std::uint32_t> ifindexes) {
  {
    const std::lock_guard lock(mutex_);
    offered_ = std::move(ifindexes);
    std::erase(offered_, moving_);
  }
  changed_.notify_all();
}

void LinkMover::begin_hold() {
  const std::lock_guard lock(mutex_);
  ++holds_;
}

void LinkMover::end_hold() {
  {
    const std::lock_guard lock(mutex_);
    --holds_;
    not_before_ = Clock::now() + pause_;
  }
  changed_.notify_all();
}

void LinkMover::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void LinkMover::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || (!offered_.empty() && holds_ == 0); });
    if (stopping_) return;
    if (const auto until = not_before_; Clock::now() < until) {
      changed_.wait_until(lock, until);
      continue;
    }
    moving_ = offered_.back();
    offered_.pop_back();
    lock.unlock();
    move_(moving_);
    lock.lock();
    moving_ = 0;
    not_before_ = std::max(not_before_, Clock::now() + kBetween);
  }
}

}  // namespace sluice::controller
