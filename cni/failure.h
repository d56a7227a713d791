// SPDX-License-Identifier: Apache-2.0
// The one way a command of the CNI plugin fails: what the runtime is told (CNI spec 1.1, section 5, "Error").
// The codes are those of daemon/server/api.h.
#pragma once

#include <string>
#include <tl/expected.hpp>

#include "common/result.h"

namespace sluice::cni {

struct Failure {
  int code = 0;
  std::string msg;
  std::string details;
};

template <typename T>
using Outcome = tl::expected<T, Failure>;

[[nodiscard]] tl::unexpected<Failure> fail(int code, std::string msg, std::string details = "");
// The network configuration is not as it must be.
[[nodiscard]] tl::unexpected<Failure> invalid_config(std::string msg, std::string details = "");
// What the kernel or the disk refused: `msg` says what was to be done.
[[nodiscard]] tl::unexpected<Failure> fail(int code, std::string msg, const Error& cause);

}  // namespace sluice::cni
