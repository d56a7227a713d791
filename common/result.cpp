// SPDX-License-Identifier: Apache-2.0
#include "common/result.h"

#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "common/confinement.h"

namespace sluice {

tl::unexpected<Error> failure_errno(int code, const std::string& what) {
  const int number = std::abs(code);
  auto message = what + ": " + std::generic_category().message(number);
  if (number == EACCES || number == EPERM) message += apparmor_hint(apparmor_label());
  return tl::unexpected<Error>(Error{std::move(message), number});
}

tl::unexpected<Error> with_context(const Error& error, const std::string& context) {
  return tl::unexpected<Error>(Error{context + ": " + error.message, error.code});
}

}  // namespace sluice
