// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

#include "cni/plugin.h"
#include "common/fault_point.h"
#include "common/fd.h"

namespace {

// SIGTERM and SIGINT become readable instead of deadly, so that an interrupted ADD undoes what it did.
sluice::Fd stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sluice::Fd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (fd) sigprocmask(SIG_BLOCK, &signals, nullptr);
  return fd;
}

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

bool write_all(std::string_view text) {
  while (!text.empty()) {
    const auto count = write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno != EINTR) return false;
    if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    signal(SIGPIPE, SIG_IGN);
    const auto stop = stop_signals();
    const auto plugin = sluice::cni::plugin_of(argc > 0 ? argv[0] : "");
    const auto [status, output] = sluice::cni::run({variable, std::cin, std::cerr, stop.get(), plugin});
    SLUICE_FAULT_POINT("cni.result.made");
    const bool written = write_all(output);
    SLUICE_FAULT_POINT("cni.result.written");
    if (written) return status;
    std::cerr << "sluice-cni: the result cannot be written to standard output\n";
  } catch (const std::exception& exception) {
    // Out of memory at most: what libraries throw ends where they are called.
    write_all(R"({"cniVersion":"1.1.0","code":100,"msg":"sluice-cni failed unexpectedly"})"
              "\n");
    std::cerr << "sluice-cni: " << exception.what() << '\n';
  }
  return 1;
}
