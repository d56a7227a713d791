// SPDX-License-Identifier: Apache-2.0
// The CNI commands. Each gives what is to be printed on standard output, empty for all but ADD.
#pragma once

#include <ostream>
#include <string>

#include "cni/config.h"
#include "cni/environment.h"
#include "cni/failure.h"

namespace sluice::cni {

struct Context {
  const Environment& environment;
  const Config& config;
  std::ostream& log;
  int stop_fd = -1;  // readable when the runtime wants the plugin to give up
};

[[nodiscard]] Outcome<std::string> add(const Context& context);
[[nodiscard]] Outcome<std::string> del(const Context& context);
[[nodiscard]] Outcome<std::string> check(const Context& context);
[[nodiscard]] Outcome<std::string> gc(const Context& context);
[[nodiscard]] Outcome<std::string> status(const Context& context);
// All commands of the `loopback` plugin.
[[nodiscard]] Outcome<std::string> loopback(const Context& context);

// Has the daemon forget the attachment, or, if it cannot be told now, queues that on disk.
[[nodiscard]] Outcome<void> release(const Context& context);

}  // namespace sluice::cni
