// SPDX-License-Identifier: Apache-2.0
#include "common/result.h"

#include <cstdlib>
#include <system_error>

namespace sluice {

tl::unexpected<Error> failure_errno(int code, const std::string& what) {
  const int number = std::abs(code);
  return tl::unexpected<Error>(Error{what + ": " + std::generic_category().message(number), number});
}

tl::unexpected<Error> with_context(const Error& error, const std::string& context) {
  return tl::unexpected<Error>(Error{context + ": " + error.message, error.code});
}

}  // namespace sluice
