// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "common/fd.h"
#include "common/result.h"

namespace sluice::server {

// A listening Unix socket that only its owner may connect to. It appears at its path by a rename, listening
// already, so that a client meets the old daemon's socket or this one and never a moment between. Removed
// when destroyed.
class UnixListener {
 public:
  // An error if another daemon holds `path`; a dead one's socket is replaced.
  [[nodiscard]] static Result<UnixListener> open(const std::string& path);
  UnixListener(UnixListener&&) noexcept = default;
  UnixListener& operator=(UnixListener&&) = delete;
  ~UnixListener();
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  UnixListener(std::string path, Fd lock, Fd socket)
      : path_(std::move(path)), lock_(std::move(lock)), socket_(std::move(socket)) {}
  std::string path_;
  Fd lock_;  // of <path>.lock; the kernel lets it go when the process dies, however it dies
  Fd socket_;
};

// "127.0.0.1:9790", "[::]:9790", ":9790" (all addresses). Port 0: one that the kernel chooses.
[[nodiscard]] Result<Fd> listen_tcp(const std::string& address);
[[nodiscard]] Result<int> local_port(int fd);

}  // namespace sluice::server
