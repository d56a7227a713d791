// SPDX-License-Identifier: Apache-2.0
// The one way an operation reports failure. An Error says what went wrong and, where it is not obvious, what
// to do; `code` is the errno (positive) it came from, or 0.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace sluice {

struct Error {
  std::string message;
  int code = 0;
};

template <typename T>
using Result = tl::expected<T, Error>;

template <typename... Args>
[[nodiscard]] tl::unexpected<Error> failure(fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{fmt::format(format, std::forward<Args>(args)...), 0});
}

// "<what>: <strerror(code)>"; accepts a positive errno or a negative kernel or libbpf code.
[[nodiscard]] tl::unexpected<Error> failure_errno(int code, const std::string& what);

// The same error with "<context>: " before it.
[[nodiscard]] tl::unexpected<Error> with_context(const Error& error, const std::string& context);

}  // namespace sluice
