// SPDX-License-Identifier: Apache-2.0
// Attempts to open a connection, at a steady rate, from source ports that recur.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace sluice::tools {

struct Plan {
  std::string protocol, client, server, address;  // client and server: paths of network namespaces
  std::uint16_t port = 0;
  std::uint16_t first_port = 0, ports = 0;  // source ports; 0: the system chooses
  std::int64_t patience_ns = 0;             // after which an unanswered TCP connection is given up
};

struct Attempt {
  std::int64_t begin_ns = 0, sent_ns = 0;        // before and after the call that sends
  std::int64_t arrived_ns = 0, answered_ns = 0;  // 0: not seen at the server; no answer at the client
  std::uint16_t port = 0;
  std::uint8_t retransmissions = 0;
};

// Runs on a thread of its own, in the client's namespace.
class Client {
 public:
  virtual ~Client() = default;
  virtual void start() = 0;                        // one attempt; may find no source port free
  virtual void wait(std::int64_t timeout_ns) = 0;  // for answers

  [[nodiscard]] std::vector<Attempt>& attempts() { return attempts_; }
  [[nodiscard]] std::uint64_t without_port() const { return without_port_; }

 protected:
  std::vector<Attempt> attempts_;
  std::uint64_t without_port_ = 0;
};

// Runs on a thread of its own, in the server's namespace.
class Server {
 public:
  virtual ~Server() = default;
  virtual void serve(int timeout_ms) = 0;
  virtual void enter_arrivals(std::vector<Attempt>& attempts) const = 0;
  [[nodiscard]] virtual std::uint64_t drops() const = 0;
};

std::unique_ptr<Client> make_tcp_client(const Plan& plan);
std::unique_ptr<Server> make_tcp_server(const Plan& plan);
// UDP from sockets; SCTP by hand on raw ones (INIT, answered by INIT ACK), which needs none in the kernel.
std::unique_ptr<Client> make_datagram_client(const Plan& plan);
std::unique_ptr<Server> make_datagram_server(const Plan& plan);

}  // namespace sluice::tools
