// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/decode.h"

#include "daemon/source/files.h"

namespace sluice::source {

namespace {

constexpr int kJsonDepthMost = 128;
constexpr std::size_t kMessageMost = 300;

}  // namespace

Result<nlohmann::json> decode(std::string_view text) {
  using Json = nlohmann::json;
  bool too_deep = false;
  const auto filter = [&](int depth, Json::parse_event_t event, Json& parsed) {
    // From here on nothing is kept, so the text's depth costs neither stack nor much memory.
    if (depth > kJsonDepthMost) too_deep = true;
    if (too_deep) return false;
    return !(event == Json::parse_event_t::key && parsed == "managedFields");
  };
  auto json = Json::parse(text.begin(), text.end(), filter, /*allow_exceptions=*/false);
  if (too_deep) return failure("the JSON is nested deeper than {}", kJsonDepthMost);
  if (json.is_discarded()) return failure("the answer is not JSON");
  return json;
}

std::string text_at(const nlohmann::json& json, const char* outer, const char* inner) {
  if (!json.is_object()) return {};
  const auto found = json.find(outer);
  if (found == json.end() || !found->is_object()) return {};
  const auto member = found->find(inner);
  return member != found->end() && member->is_string() ? member->get<std::string>() : std::string();
}

model::ObjectKey key_of(const nlohmann::json& json, model::Kind kind) {
  return {kind, model::is_namespaced(kind) ? text_at(json, "metadata", "namespace") : std::string(),
          text_at(json, "metadata", "name")};
}

std::string status_message(const nlohmann::json& status) {
  if (!status.is_object()) return {};
  const auto message = status.find("message");
  if (message == status.end() || !message->is_string()) return {};
  return ": " + ascii(message->get<std::string>().substr(0, kMessageMost));
}

}  // namespace sluice::source
