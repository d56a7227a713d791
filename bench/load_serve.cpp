// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "bench/load.h"

namespace sluice::bench {

namespace {

// Blocking sockets and a thread for each long connection: the fewest system calls between arrival and answer.
void echo(const Fd& connection) {
  const int on = 1;
  setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  char byte = 0;
  while (read(connection.get(), &byte, 1) == 1)
    if (write(connection.get(), &byte, 1) != 1) return;
}

void sink(const Fd& connection) {
  std::vector<char> buffer(256 << 10);
  std::uint64_t total = 0;
  for (ssize_t got = 0; (got = read(connection.get(), buffer.data(), buffer.size())) > 0;)
    total += static_cast<std::uint64_t>(got);
  static_cast<void>(!write(connection.get(), &total, sizeof total));
}

// The server closes first, so that the client's ports are free at once.
void answer_once(const Fd& connection) {
  char byte = 0;
  if (read(connection.get(), &byte, 1) == 1) static_cast<void>(!write(connection.get(), &byte, 1));
}

template <typename Handler>
void accept_all(const Fd& listener, Handler&& handler) {
  while (true) {
    auto connection = std::make_shared<Fd>(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (*connection)
      handler(std::move(connection));
    else if (errno != ECONNABORTED && errno != EINTR && errno != EMFILE)
      return;
  }
}

void threads(const Fd& listener, void (*serve_one)(const Fd&)) {
  accept_all(listener, [serve_one](std::shared_ptr<Fd> connection) {
    std::thread([serve_one, connection = std::move(connection)] { serve_one(*connection); }).detach();
  });
}

void windows(const Fd& socket) {
  Datagram datagram{};
  std::uint32_t window = 0, received = 0;
  while (true) {
    sockaddr_in peer{};
    socklen_t length = sizeof peer;
    if (recvfrom(socket.get(), datagram.data(), sizeof datagram, 0, reinterpret_cast<sockaddr*>(&peer),
                 &length) != static_cast<ssize_t>(sizeof datagram))
      continue;
    if (datagram[0] != window) received = 0;
    window = datagram[0];
    ++received;
    if (datagram[1] == 0) continue;
    datagram[1] = received;
    sendto(socket.get(), datagram.data(), sizeof datagram, 0, reinterpret_cast<const sockaddr*>(&peer),
           length);
  }
}

}  // namespace

Result<void> serve() {
  auto echoes = listen_on(SOCK_STREAM, kEchoPort);
  auto sinks = listen_on(SOCK_STREAM, kSinkPort);
  auto shorts = listen_on(SOCK_STREAM, kShortPort);
  auto datagrams = listen_on(SOCK_DGRAM, kWindowPort);
  for (const auto* each : {&echoes, &sinks, &shorts, &datagrams})
    if (!*each) return tl::unexpected(each->error());
  std::thread([&] { threads(*echoes, echo); }).detach();
  std::thread([&] { threads(*sinks, sink); }).detach();
  std::thread([&] { accept_all(*shorts, [](const std::shared_ptr<Fd>& fd) { answer_once(*fd); }); }).detach();
  std::thread([&] { windows(*datagrams); }).detach();
  fmt::print("ready\n");
  std::fflush(stdout);
  char byte = 0;
  static_cast<void>(!read(STDIN_FILENO, &byte, 1));  // until the benchmark closes it
  std::_Exit(0);                                     // the threads end with the process
}

}  // namespace sluice::bench
