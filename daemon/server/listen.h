// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

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
  // Is what is at the path this socket, and the lock beside it this one's?
  [[nodiscard]] bool is_there() const;
  // For one that is not. The socket of before, if there is another now, is to be closed
  // when nobody waits for it any more.
  [[nodiscard]] Result<Fd> make_again();

 private:
  struct FileId {
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const FileId&) const = default;
  };
  explicit UnixListener(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] std::string lock_path() const { return path_ + ".lock"; }
  [[nodiscard]] bool has_lock() const;
  [[nodiscard]] static FileId file_at(const std::string& path);  // {}: none
  [[nodiscard]] Result<Fd> make_socket();
  std::string path_;
  Fd lock_;  // of <path>.lock; the kernel lets it go when the process dies, however it dies
  Fd socket_;
  FileId id_;  // of the socket's file
};

// "127.0.0.1:9790", "[::]:9790", ":9790" (all addresses). Port 0: one that the kernel chooses.
[[nodiscard]] Result<Fd> listen_tcp(const std::string& address);
[[nodiscard]] Result<int> local_port(int fd);

}  // namespace sluice::server
