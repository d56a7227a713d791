// SPDX-License-Identifier: Apache-2.0
// What the API server says, from text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/result.h"
#include "daemon/model/objects.h"
#include "daemon/model/tree.h"

namespace sluice::source {

// What is nested absurdly deep is an error. The time is a matter of the text's length alone.
[[nodiscard]] Result<model::Tree> decode_object(std::string_view text);
// The same for an answer that is to be changed and sent back.
[[nodiscard]] Result<nlohmann::json> decode(std::string_view text);

// A string of a JSON object's member of a member, "" if it is none: text_at(json, "metadata", "name").
[[nodiscard]] std::string text_at(const nlohmann::json& json, const char* outer, const char* inner);

// {"metadata": {"name": …, "namespace": …, "uid": …}} of an object of which only the beginning is there. The
// API server writes an object's metadata before anything that may be long.
[[nodiscard]] nlohmann::json decode_identity(std::string_view beginning);

[[nodiscard]] model::ObjectKey key_of(const model::Value& object, model::Kind kind);

// ": <message of the Status object>" or "".
[[nodiscard]] std::string status_message(const model::Value& status);

}  // namespace sluice::source
