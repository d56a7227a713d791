// SPDX-License-Identifier: Apache-2.0
// What the traffic tools share: namespaces, sockets and the clock. A tool that cannot do its work ends with
// the error.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <stdexcept>
#include <string>
#include <system_error>

#include "common/fd.h"

namespace sluice::tools {

inline void must_succeed(bool good, const std::string& what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

// CLOCK_MONOTONIC: the same in every process and namespace.
inline std::int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// The calling thread, and the sockets that it makes, are in the namespace from here on.
inline void join_netns(const std::string& path) {
  const Fd netns(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  must_succeed(static_cast<bool>(netns) && setns(netns.get(), CLONE_NEWNET) == 0, "join " + path);
}

inline sockaddr_in socket_address(const std::string& address, std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  if (inet_pton(AF_INET, address.c_str(), &name.sin_addr) != 1)
    throw std::runtime_error(address + " is no IPv4 address");
  return name;
}

inline Fd make_socket(int type, int protocol = 0) {
  Fd made(socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  must_succeed(static_cast<bool>(made), "socket");
  return made;
}

inline void set_option(const Fd& fd, int level, int name, const auto& value) {
  must_succeed(setsockopt(fd.get(), level, name, &value, sizeof value) == 0, "setsockopt");
}

inline void bind_port(const Fd& fd, std::uint16_t port) {
  const auto name = socket_address("0.0.0.0", port);
  must_succeed(bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0,
               "bind to port " + std::to_string(port));
}

// Room for whatever comes while the reader waits for a CPU.
inline void make_room(const Fd& fd, int bytes) { set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes); }

// Packets that found the socket full.
inline std::uint64_t socket_drops(const Fd& fd) {
  std::array<std::uint32_t, SK_MEMINFO_VARS> info{};
  socklen_t length = sizeof info;
  must_succeed(getsockopt(fd.get(), SOL_SOCKET, SO_MEMINFO, info.data(), &length) == 0, "SO_MEMINFO");
  return info[SK_MEMINFO_DROPS];
}

inline bool readable(int fd, int timeout_ms) {
  pollfd waiting{fd, POLLIN, 0};
  return poll(&waiting, 1, timeout_ms) == 1;
}

}  // namespace sluice::tools
