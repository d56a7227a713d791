// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "bench/load.h"

namespace sluice::bench {

namespace {

// An answer takes microseconds; what has none after this was denied.
constexpr std::uint64_t kPatienceNs = 300'000'000;

class Attempts {
 public:
  static Result<Attempts> make(const std::string& host, unsigned interval_us) {
    Attempts made;
    made.target_ = address_of(host, kEchoPort);
    made.epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
    made.timer_ = Fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    const long ns = static_cast<long>(interval_us) * 1000;
    const itimerspec every{{0, ns}, {0, ns}};
    if (!made.epoll_ || !made.timer_ || timerfd_settime(made.timer_.get(), 0, &every, nullptr) != 0)
      return failure_errno(errno, "make a timer");
    made.watch(made.timer_.get(), EPOLLIN);
    made.watch(STDIN_FILENO, EPOLLIN);
    return made;
  }

  Result<void> run() {
    for (std::uint64_t stop_at = 0; stop_at == 0 || now_ns() < stop_at;) {
      std::array<epoll_event, 64> events{};
      const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 20);
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == STDIN_FILENO) {
          if (stop_at == 0) stop_at = now_ns() + kPatienceNs;
          epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, STDIN_FILENO, nullptr);
        } else if (fd != timer_.get()) {
          finish(fd);
        } else {
          std::uint64_t ticks = 0;
          static_cast<void>(!read(fd, &ticks, sizeof ticks));
          if (stop_at != 0) continue;
          if (auto done = start(); !done) return done;
        }
      }
    }
    std::cout << nlohmann::json{{"asked_ns", asked_}, {"answered", answered_}}.dump() << std::endl;
    return {};
  }

 private:
  void watch(int fd, std::uint32_t what) const {
    epoll_event event{};
    event.events = what;
    event.data.fd = fd;
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  }

  Result<void> start() {
    Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // Closed by a reset: neither side keeps anything of it.
    const linger reset{1, 0};
    if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset) != 0)
      return failure_errno(errno, "make a socket");
    asked_.push_back(now_ns());
    answered_.push_back(0);
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&target_), sizeof target_) != 0 &&
        errno != EINPROGRESS)
      return failure_errno(errno, "connect");
    watch(fd.get(), EPOLLOUT);
    const int number = fd.get();
    pending_.insert_or_assign(number, std::pair{asked_.size() - 1, std::move(fd)});
    return {};
  }

  void finish(int number) {
    const auto found = pending_.find(number);
    if (found == pending_.end()) return;
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(number, SOL_SOCKET, SO_ERROR, &error, &length);
    answered_[found->second.first] = error == 0;
    pending_.erase(found);
  }

  sockaddr_in target_{};
  Fd epoll_, timer_;
  std::map<int, std::pair<std::size_t, Fd>> pending_;  // by fd: index of the attempt
  std::vector<std::uint64_t> asked_;                   // CLOCK_MONOTONIC
  std::vector<int> answered_;
};

}  // namespace

Result<void> attempts(const std::string& host, unsigned interval_us) {
  return Attempts::make(host, interval_us).and_then([](Attempts made) { return made.run(); });
}

}  // namespace sluice::bench
