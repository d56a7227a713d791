// SPDX-License-Identifier: Apache-2.0
// Deletes host-side links of attachments that are over, on a thread of its own: the kernel takes some 25 ms
// for one (it waits until every CPU has let go of it), and neither a DEL nor the controller has to.
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

  // Tried again until it succeeds. Nothing if it is being removed already.
  void remove(Link link);
  [[nodiscard]] bool removing(std::uint32_t ifindex) const;
  // Until nothing is left to remove, or that time is over.
  void wait(std::chrono::milliseconds time) const;
  // What is left is removed first, each tried once more.
  void stop();

 private:
  void work();

  const std::function<void(std::uint32_t)> gone_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<Link> queue_;
  std::deque<Link> failed_;
  std::set<std::uint32_t> removing_;  // all that is not gone yet
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::controller
