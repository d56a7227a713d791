// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/decode.h"

#include <tuple>

#include "daemon/source/files.h"

namespace sluice::source {

namespace {

constexpr int kJsonDepthMost = 128;
constexpr std::size_t kMessageMost = 300;

bool is_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false, escaped = false;
  for (const char c : text) {
    if (in_string) {
      if (c == '"' && !escaped) in_string = false;
      escaped = c == '\\' && !escaped;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kJsonDepthMost) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

tl::unexpected<Error> too_deep() { return failure("the JSON is nested deeper than {}", kJsonDepthMost); }
tl::unexpected<Error> no_json() { return failure("the answer is not JSON"); }

}  // namespace

Result<model::Tree> decode_object(std::string_view text) {
  if (auto tree = model::Tree::parse(text, kJsonDepthMost)) return std::move(*tree);
  if (is_too_deep(text)) return too_deep();
  return no_json();
}

Result<nlohmann::json> decode(std::string_view text) {
  if (is_too_deep(text)) return too_deep();
  // Without a callback: for each object that ends in an array nlohmann's parser with one walks that array.
  auto json = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return no_json();
  return json;
}

nlohmann::json decode_identity(std::string_view beginning) {
  using Json = nlohmann::json;
  Json metadata = Json::object();
  std::string outer, inner;
  const auto filter = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1) outer = parsed.get<std::string>();
    if (event == Json::parse_event_t::key && depth == 2) inner = parsed.get<std::string>();
    const bool told = event == Json::parse_event_t::value && depth == 2 && outer == "metadata";
    if (told && (inner == "name" || inner == "namespace" || inner == "uid")) metadata[inner] = parsed;
    return true;
  };
  // It is cut off, so that parsing it fails in the end.
  const auto failed = Json::parse(beginning.begin(), beginning.end(), filter, /*allow_exceptions=*/false);
  std::ignore = failed;
  return {{"metadata", std::move(metadata)}};
}

std::string text_at(const nlohmann::json& json, const char* outer, const char* inner) {
  if (!json.is_object()) return {};
  const auto found = json.find(outer);
  if (found == json.end() || !found->is_object()) return {};
  const auto member = found->find(inner);
  return member != found->end() && member->is_string() ? member->get<std::string>() : std::string();
}

model::ObjectKey key_of(const model::Value& object, model::Kind kind) {
  return {kind, model::is_namespaced(kind) ? text_at(object, "metadata", "namespace") : std::string(),
          text_at(object, "metadata", "name")};
}

std::string status_message(const model::Value& status) {
  const auto* message = status.find("message");
  if (message == nullptr || !message->is_text()) return {};
  return ": " + ascii(std::string(message->text().substr(0, kMessageMost)));
}

}  // namespace sluice::source
