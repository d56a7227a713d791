// SPDX-License-Identifier: Apache-2.0
#include "cni/failure.h"

#include <utility>

#include "daemon/server/api.h"

namespace sluice::cni {

tl::unexpected<Failure> fail(int code, std::string msg, std::string details) {
  return tl::unexpected<Failure>(Failure{code, std::move(msg), std::move(details)});
}

tl::unexpected<Failure> invalid_config(std::string msg, std::string details) {
  return fail(server::kCniInvalidConfig, std::move(msg), std::move(details));
}

tl::unexpected<Failure> fail(int code, std::string msg, const Error& cause) {
  return fail(code, std::move(msg), cause.message);
}

}  // namespace sluice::cni
