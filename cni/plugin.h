// SPDX-License-Identifier: Apache-2.0
// One invocation of the CNI plugin (CNI spec 1.1), with all that it has from the process given to it.
#pragma once

#include <istream>
#include <ostream>
#include <string>
#include <string_view>

#include "cni/config.h"
#include "cni/environment.h"

namespace sluice::cni {

struct Process {
  Variables variables;
  std::istream& input;
  std::ostream& log;
  int stop_fd = -1;  // readable when the runtime wants the plugin to give up
  Plugin plugin = Plugin::kSluice;
};

// By the name that the binary was started under.
[[nodiscard]] Plugin plugin_of(std::string_view path);

struct Exit {
  int status = 0;
  std::string output;  // for standard output, nothing else may be written there; may be empty
};

[[nodiscard]] Exit run(const Process& process);

}  // namespace sluice::cni
