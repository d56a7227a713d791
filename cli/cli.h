// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ostream>

namespace sluice::cli {

enum ExitCode : int {
  kDone = 0,
  kFailed = 1,    // the command line, or the daemon's answer
  kNoDaemon = 2,  // the daemon cannot be reached
};

[[nodiscard]] int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace sluice::cli
