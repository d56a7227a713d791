// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <deque>
#include <string>
#include <thread>

#include "common/fd.h"

namespace sluice::server {

// A host at an address of its own that opens connections to a TCP port of 127.0.0.1 without pause, sends the
// beginning of a request by each and never ends one. The newest 600 stay open: longer than those that wait
// for a thread would take to get one.
class Crowd {
 public:
  Crowd(std::string from, int port) : from_(std::move(from)), port_(port), thread_([this] { run(); }) {}
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;
  ~Crowd() {
    stopping_ = true;
    thread_.join();
  }
  [[nodiscard]] int opened() const { return opened_; }

 private:
  static sockaddr_in address(const std::string& text, int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET, text.c_str(), &address.sin_addr);
    return address;
  }
  void run() {
    std::deque<Fd> open;
    const auto source = address(from_, 0), target = address("127.0.0.1", port_);
    while (!stopping_) {
      Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0) continue;
      if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&target), sizeof target) != 0) continue;
      (void)!::send(fd.get(), "GET /", 5, MSG_NOSIGNAL);
      open.push_back(std::move(fd));
      if (open.size() > 600) open.pop_front();
      if (++opened_ > 300) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  const std::string from_;
  const int port_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> opened_{0};
  std::thread thread_;
};

}  // namespace sluice::server
