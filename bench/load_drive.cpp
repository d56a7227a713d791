// SPDX-License-Identifier: Apache-2.0
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "bench/load.h"

namespace sluice::bench {

using nlohmann::json;

namespace {

Result<Fd> connect_to(const std::string& host, int type, std::uint16_t port) {
  Fd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  const auto address = address_of(host, port);
  if (!fd || connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return failure_errno(errno, fmt::format("connect to {} port {}", host, port));
  const int on = 1;
  if (type == SOCK_STREAM) setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

double seconds_since(std::uint64_t begin) { return static_cast<double>(now_ns() - begin) / 1e9; }

double quantile_us(const std::vector<std::uint64_t>& sorted_ns, double q) {
  return static_cast<double>(
             sorted_ns[static_cast<std::size_t>(q * static_cast<double>(sorted_ns.size() - 1))]) /
         1e3;
}

// One byte there, one byte back, one at a time.
Result<json> request_response(const std::string& host, double seconds) {
  auto fd = connect_to(host, SOCK_STREAM, kEchoPort);
  if (!fd) return tl::unexpected(fd.error());
  std::vector<std::uint64_t> latencies;
  latencies.reserve(1 << 18);
  const auto end = now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
  for (auto before = now_ns(); before < end;) {
    char byte = 'x';
    if (write(fd->get(), &byte, 1) != 1 || read(fd->get(), &byte, 1) != 1)
      return failure_errno(errno, "request and response");
    const auto after = now_ns();
    latencies.push_back(after - before);
    before = after;
  }
  std::ranges::sort(latencies);
  return json{{"p50_us", quantile_us(latencies, 0.5)},
              {"p99_us", quantile_us(latencies, 0.99)},
              {"per_second", static_cast<double>(latencies.size()) / seconds}};
}

// As much as goes through one connection, until the other side has read all of it.
Result<json> bulk(const std::string& host, double seconds) {
  auto fd = connect_to(host, SOCK_STREAM, kSinkPort);
  if (!fd) return tl::unexpected(fd.error());
  const std::vector<char> buffer(128 << 10, 'x');
  const auto begin = now_ns();
  while (seconds_since(begin) < seconds)
    if (write(fd->get(), buffer.data(), buffer.size()) < 0) return failure_errno(errno, "send");
  shutdown(fd->get(), SHUT_WR);
  std::uint64_t total = 0;
  if (read(fd->get(), &total, sizeof total) != sizeof total)
    return failure_errno(errno, "ask what was received");
  return json{{"gbit_per_second", static_cast<double>(total) * 8 / 1e9 / seconds_since(begin)}};
}

// A new connection for each request.
Result<json> connect_request_response(const std::string& host, double seconds) {
  std::uint64_t count = 0;
  const auto begin = now_ns();
  while (seconds_since(begin) < seconds) {
    auto fd = connect_to(host, SOCK_STREAM, kShortPort);
    if (!fd) return tl::unexpected(fd.error());
    char byte = 'x';
    if (write(fd->get(), &byte, 1) != 1 || read(fd->get(), &byte, 1) != 1 || read(fd->get(), &byte, 1) != 0)
      return failure_errno(errno, "request and response on a new connection");
    ++count;
  }
  return json{{"per_second", static_cast<double>(count) / seconds_since(begin)}};
}

// Datagrams by windows, so that none is lost in the receiver's queue and every one counted was delivered.
Result<json> datagrams(const std::string& host, double seconds) {
  auto fd = connect_to(host, SOCK_DGRAM, kWindowPort);
  if (!fd) return tl::unexpected(fd.error());
  const timeval patience{0, 100'000};
  setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::uint64_t sent = 0, received = 0;
  const auto begin = now_ns();
  for (std::uint32_t window = static_cast<std::uint32_t>(begin); seconds_since(begin) < seconds; ++window) {
    Datagram datagram{window};
    for (std::uint32_t i = 1; i <= kWindow; ++i) {
      datagram[1] = i == kWindow ? 1 : 0;
      if (send(fd->get(), datagram.data(), sizeof datagram, 0) < 0)
        return failure_errno(errno, "send a datagram");
    }
    sent += kWindow;
    if (recv(fd->get(), datagram.data(), sizeof datagram, 0) == static_cast<ssize_t>(sizeof datagram) &&
        datagram[0] == window)
      received += datagram[1];
  }
  return json{{"per_second", static_cast<double>(received) / seconds_since(begin)},
              {"lost", sent - received}};
}

}  // namespace

Result<void> drive(const std::string& host) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string what;
    double seconds = 0;
    words >> what >> seconds;
    auto measured = what == "rr"     ? request_response(host, seconds)
                    : what == "bulk" ? bulk(host, seconds)
                    : what == "crr"  ? connect_request_response(host, seconds)
                    : what == "udp"  ? datagrams(host, seconds)
                                     : Result<json>(failure("there is no load '{}'", what));
    if (!measured) return tl::unexpected(measured.error());
    std::cout << measured->dump() << std::endl;
  }
  return {};
}

}  // namespace sluice::bench
