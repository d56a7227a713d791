// SPDX-License-Identifier: Apache-2.0
// Deletes host-side links of attachments that are over, on a thread of its own: the kernel takes some 25 ms
// for one (it waits until every CPU has let go of it), and neither a DEL nor the controller has to. Meanwhile
// nobody else can change an interface (the RTNL lock), so a deletion waits for a time without ADDs and DELs;
// most links are gone by then, with their pod's namespace, at no cost of their own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace sluice::controller {

class LinkRemover {
 public:
  struct Link {
    std::string name;
    std::uint32_t ifindex = 0;  // decides: another link may have taken the name
  };

  // `gone` is called on the remover's thread for each link that is no more.
  explicit LinkRemover(std::function<void(std::uint32_t ifindex)> gone);
  LinkRemover(const LinkRemover&) = delete;
  LinkRemover& operator=(const LinkRemover&) = delete;
  ~LinkRemover() { stop(); }

  // Within a second or so; tried again until it succeeds. Nothing if it is being removed already.
  void remove(Link link);
  // An ADD has begun or ended: what can wait waits, as after each remove().
  void pause();
  // What is there to remove is removed now: somebody lacks what it holds.
  void hurry();
  [[nodiscard]] bool removing(std::uint32_t ifindex) const;
  // Until nothing is left to remove, now without a pause, or that time is over.
  void wait(std::chrono::milliseconds time);
  // What is left is removed first, each tried once more.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kPause{200};
  static constexpr std::chrono::seconds kLongest{1};  // that a link may wait
  struct Removal {
    Link link;
    Clock::time_point at_the_latest;
  };

  void work();
  void pause_locked() { paused_until_ = Clock::now() + kPause; }
  // When the first in the queue is due.
  [[nodiscard]] Clock::time_point due() const;

  const std::function<void(std::uint32_t)> gone_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Removal> queue_;
  std::deque<Removal> failed_;
  std::set<std::uint32_t> removing_;  // all that is not gone yet
  Clock::time_point paused_until_{};
  bool hurried_ = false;  // until the queue is empty
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::controller
