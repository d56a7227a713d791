// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "common/result.h"

namespace sluice::source {

// A regular file's content, at most `most` bytes.
[[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t most);

// With '?' for all that is not printable ASCII: text from outside becomes part of messages, which are sent on
// as JSON and so must be UTF-8.
[[nodiscard]] std::string ascii(std::string text);

}  // namespace sluice::source
