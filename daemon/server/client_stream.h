// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <httplib.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <string>

#include "daemon/server/acceptor.h"

namespace sluice::server {

// What cpp-httplib reads from and writes to: one request within `budget` bytes and five seconds.
class ClientStream final : public httplib::Stream {
 public:
  ClientStream(Connection& connection, std::size_t budget);

  bool is_readable() const override;
  // False once the client has gone, or the acceptor has dropped the connection.
  bool is_writable() const override;
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* data, size_t size) override;
  // Closing with bytes unread would reset the connection, and the client could lose the answer.
  void finish();

  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  // cpp-httplib only compares it with FD_SETSIZE, for a select() that is not used here.
  socket_t socket() const override { return 0; }

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] bool pending(short events) const;
  [[nodiscard]] bool wait(short events, Clock::time_point by);
  [[nodiscard]] bool fill();

  Connection& connection_;
  std::size_t budget_;
  const Clock::time_point read_by_;
  std::array<char, 4096> buffer_{};
  std::size_t next_ = 0, filled_ = 0;
  bool at_end_ = false;
};

}  // namespace sluice::server
