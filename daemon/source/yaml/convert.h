// SPDX-License-Identifier: Apache-2.0
// YAML to JSON by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `yes` is a
// string, a quoted number is one too.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/result.h"

namespace sluice::source {

struct Document {
  nlohmann::json json;
  int line = 1;  // where it begins
};

struct ConvertError {
  std::string message;
  int line = 1;
};

// All documents of a file; the items of a List are documents of their own. Bounded in depth and size,
// whatever aliases stand for.
[[nodiscard]] tl::expected<std::vector<Document>, ConvertError> read_documents(const std::string& text,
                                                                               bool is_json);

}  // namespace sluice::source
