// SPDX-License-Identifier: Apache-2.0
// Load generator of the benchmarks: Python is too slow to load a path of microseconds.
//   sluice_bench_load CPU serve
//   sluice_bench_load CPU drive HOST
//   sluice_bench_load CPU attempts HOST INTERVAL_US
// CPU: the one that the process is pinned to; -1: none.
#include "bench/load.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <span>

namespace sluice::bench {

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

sockaddr_in address_of(const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  return address;
}

Result<Fd> listen_on(int type, std::uint16_t port) {
  Fd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  if (!fd) return failure_errno(errno, "make a socket");
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto address = address_of("0.0.0.0", port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      (type == SOCK_STREAM && listen(fd.get(), 1024) != 0))
    return failure_errno(errno, fmt::format("listen on port {}", port));
  return fd;
}

namespace {

Result<void> pin(int cpu) {
  if (cpu < 0) return {};
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0)
    return failure_errno(errno, fmt::format("pin to CPU {}", cpu));
  return {};
}

Result<void> run(std::span<char*> arguments) {
  if (arguments.size() < 2)
    return failure("usage: sluice_bench_load CPU serve | drive HOST | attempts HOST US");
  if (auto done = pin(std::atoi(arguments[0])); !done) return done;
  const std::string mode = arguments[1];
  if (mode == "serve") return serve();
  if (mode == "drive" && arguments.size() == 3) return drive(arguments[2]);
  if (mode == "attempts" && arguments.size() == 4)
    return attempts(arguments[2], static_cast<unsigned>(std::atoi(arguments[3])));
  return failure("there is no mode '{}' with {} arguments", mode, arguments.size() - 2);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  const auto done = sluice::bench::run({argv + 1, argv + argc});
  if (done) return 0;
  fmt::print(stderr, "sluice_bench_load: {}\n", done.error().message);
  return 1;
}
