// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/link_remover.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/fault_point.h"
#include "common/netlink.h"

namespace sluice::controller {

using namespace std::chrono_literals;

namespace {

constexpr auto kRetry = 1s;

Result<void> delete_link(const LinkRemover::Link& wanted) {
  auto netlink = NetlinkSocket::make();
  if (!netlink) return tl::unexpected(netlink.error());
  const auto index = static_cast<int>(wanted.ifindex);
  const auto link = netlink->link(index);
  if (!link && link.error().code == ENODEV) return {};  // with the pod's namespace, or by the CNI binary
  if (!link) return tl::unexpected(link.error());
  if (link->name != wanted.name)
    return failure("interface {} is called {} now, so it is not deleted: was it renamed? Delete it by hand",
                   wanted.name, link->name);
  auto done = netlink->delete_link(index);
  if (!done && done.error().code == ENODEV) return {};
  return done;
}

}  // namespace

LinkRemover::LinkRemover(std::function<void(std::uint32_t)> gone)
    : gone_(std::move(gone)), thread_([this] { work(); }) {}

void LinkRemover::remove(Link link) {
  {
    const std::lock_guard lock(mutex_);
    if (!removing_.insert(link.ifindex).second) return;
    queue_.push_back({std::move(link), Clock::now() + kLongest});
    pause_locked();
  }
  changed_.notify_all();
}

// The thread, which sleeps until an earlier time, looks again then.
void LinkRemover::pause() {
  const std::lock_guard lock(mutex_);
  pause_locked();
}

void LinkRemover::hurry() {
  {
    const std::lock_guard lock(mutex_);
    hurried_ = !queue_.empty();
  }
  changed_.notify_all();
}

bool LinkRemover::removing(std::uint32_t ifindex) const {
  const std::lock_guard lock(mutex_);
  return removing_.contains(ifindex);
}

void LinkRemover::wait(std::chrono::milliseconds time) {
  hurry();
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, time, [this] { return removing_.empty(); });
}

void LinkRemover::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

LinkRemover::Clock::time_point LinkRemover::due() const {
  return hurried_ || stopping_ ? Clock::time_point::min()
                               : std::min(queue_.front().at_the_latest, paused_until_);
}

void LinkRemover::work() {
  std::set<std::uint32_t> told;  // whose failure stands in the log
  std::unique_lock lock(mutex_);
  while (true) {
    const auto pending = [this] { return stopping_ || !queue_.empty(); };
    if (failed_.empty())
      changed_.wait(lock, pending);
    else if (!changed_.wait_for(lock, kRetry, pending))
      queue_.swap(failed_);
    if (queue_.empty()) return;
    if (const auto until = due(); Clock::now() < until) {
      changed_.wait_until(lock, until);
      continue;
    }
    const auto removal = std::move(queue_.front());
    const auto& link = removal.link;
    queue_.pop_front();
    if (queue_.empty()) hurried_ = false;
    lock.unlock();
    const auto done = delete_link(link);
    if (done) {
      SLUICE_FAULT_POINT("removal.link_deleted");
      gone_(link.ifindex);
    } else if (told.insert(link.ifindex).second) {
      spdlog::error("{}; tried again every second", done.error().message);
    }
    lock.lock();
    if (done) {
      removing_.erase(link.ifindex);
      told.erase(link.ifindex);
    } else {
      failed_.push_back(removal);
    }
    changed_.notify_all();
  }
}

}  // namespace sluice::controller
