// SPDX-License-Identifier: Apache-2.0
// Takes connections and gives each to a thread. Threads are made when they are needed and end when they are
// idle, so that a daemon nobody asks anything costs one thread. When all are taken, those that have waited
// for their client the longest lose their connection: a client that says nothing cannot keep others from
// being served. Of those that wait for a thread, each address has a few, and the newest of its own take the
// place of its oldest: a host that opens connections without end takes its own share and no other's.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/fd.h"

namespace sluice::server {

class Connection {
 public:
  Connection(Fd fd, std::string from) : source(std::move(from)), fd_(std::move(fd)) {}
  [[nodiscard]] int fd() const { return fd_.get(); }
  const std::string source;  // the client's address; empty: by a Unix socket
  // True while its thread waits for the client to send or to read.
  std::atomic<bool> waits_for_client{false};
  const std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();

 private:
  Fd fd_;
};

class Acceptor {
 public:
  using Serve = std::function<void(Connection&)>;  // one conversation; the connection is closed after it

  // Serves until destroyed, which interrupts waits for clients and joins.
  Acceptor(std::size_t most_threads, Serve serve);
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;
  ~Acceptor();
  // Takes connections of these sockets from now on, and of none that it was told before. They are not owned;
  // close none while it is among them.
  void listen_on(std::vector<int> listeners);

 private:
  using Lock = std::unique_lock<std::mutex>;
  void accept_all();
  void accept_from(int listener);
  void admit(Fd fd, std::string source);
  bool make_room(const std::string& source);
  void work(std::list<std::thread>::iterator self);
  void drop_slowest();
  void reap(Lock& lock);

  void wake_acceptor();

  const Fd wake_up_;  // an eventfd
  const std::size_t most_threads_;
  const Serve serve_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<int> listeners_;
  bool listeners_heeded_ = false;
  std::deque<std::shared_ptr<Connection>> queue_;
  std::list<std::shared_ptr<Connection>> active_;
  std::list<std::thread> threads_;
  std::list<std::thread> ended_;  // to be joined
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::thread acceptor_;
};

}  // namespace sluice::server
