// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/yaml/file.h"

#include <cctype>
#include <optional>

#include "daemon/model/parse.h"
#include "daemon/source/yaml/convert.h"

namespace sluice::source {

namespace {

using nlohmann::json;

constexpr const char* kFileKeeps = "; what the file said before stays in force";
constexpr const char* kFileUnknown = "; nothing is known of what the file says";

std::optional<model::Kind> kind_of(const json& object) {
  if (!object.is_object() || !object.contains("kind") || !object["kind"].is_string()) return std::nullopt;
  const auto name = object["kind"].get<std::string>();
  for (std::size_t i = 0; i < model::kKinds; ++i) {
    const auto kind = static_cast<model::Kind>(i);
    if (name == to_string(kind)) return kind;
  }
  return std::nullopt;
}

// Of an object of a kind that is not ours: what to say, and whether somebody relies on it.
struct Ignored {
  std::string text;
  bool relied_on = false;
};

Ignored ignored(const json& object) {
  const auto text = [&](const char* field) {
    const auto found = object.find(field);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const auto lower = [](std::string word) {
    for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return word;
  };
  const auto kind = text("kind");
  const auto key = fmt::format("{} of {}", kind.substr(0, 64), text("apiVersion").substr(0, 64));
  for (std::size_t i = 0; i < model::kKinds; ++i) {
    const std::string known = to_string(static_cast<model::Kind>(i));
    if (kind != known && lower(kind) == lower(known))
      return {fmt::format("{} is not a kind; {} is. The object is not heeded", key, known), true};
  }
  if (lower(kind).find("networkpolicy") != std::string::npos)
    return {key + " is not enforced: Sluice knows NetworkPolicy of networking.k8s.io/v1 alone", true};
  return {key + " is not heeded", false};
}

// What the API server would have filled in.
void apply_defaults(json& object, model::Kind kind) {
  const auto metadata = object.find("metadata");
  if (metadata == object.end() || !metadata->is_object() || !model::is_namespaced(kind)) return;
  auto& ns = (*metadata)["namespace"];
  if (ns.is_null()) ns = "default";
}

// Of an object that cannot be used, as far as it says.
std::optional<model::ObjectKey> key_in(const json& object, model::Kind kind) {
  const auto metadata = object.find("metadata");
  if (metadata == object.end() || !metadata->is_object()) return std::nullopt;
  const auto text = [&](const char* field) {
    const auto found = metadata->find(field);
    return found != metadata->end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  return model::ObjectKey{kind, model::is_namespaced(kind) ? text("namespace") : std::string(), text("name")};
}

}  // namespace

void File::update(std::string content) {
  if (seen_ && content == content_) return;
  seen_ = true;
  content_ = std::move(content);
  parse();
}

void File::unreadable(const std::string& why) {
  seen_ = false;
  problems_ = {why + (known_ ? kFileKeeps : kFileUnknown)};
  warnings_.clear();
}

// An object that cannot be used: what it was stays; a policy that is new stands for as little as it may mean.
// Says so, for the message. None: it cannot be told which object it is.
std::optional<std::string> File::keep_or_close(const json& object, int line,
                                               std::map<model::ObjectKey, Entry>& entries) {
  const auto kind = kind_of(object);
  const auto key = kind ? key_in(object, *kind) : std::nullopt;
  if (!key) return std::nullopt;
  if (const auto earlier = entries_.find(*key); earlier != entries_.end() && !earlier->second.stands_in) {
    entries.insert(*earlier);
    return model::kKeepsEarlier;
  }
  auto closed =
      kind == model::Kind::kNetworkPolicy ? model::closed_policy(model::Tree(object).root()) : std::nullopt;
  if (!closed) return kind == model::Kind::kNetworkPolicy ? std::nullopt : std::optional<std::string>("");
  entries.try_emplace(*key, Entry{std::move(*closed), line, true});
  return model::kClosedPolicy;
}

void File::parse() {
  problems_.clear();
  warnings_.clear();
  const auto* const before = known_ ? kFileKeeps : kFileUnknown;
  auto documents = read_documents(content_, name_.ends_with(".json"));
  if (!documents) {
    problems_.push_back(
        fmt::format("{}:{}: {}{}", name_, documents.error().line, documents.error().message, before));
    return;
  }
  bool all_told = true;
  std::map<model::ObjectKey, Entry> entries;
  for (auto& [object, line] : *documents) {
    const auto kind = kind_of(object);
    if (kind) apply_defaults(object, *kind);
    auto parsed = model::parse_object(model::Tree(object).root());
    const auto problem = [&, at = line](const std::string& what) {
      problems_.push_back(fmt::format("{}:{}: {}", name_, at, what));
    };
    if (!parsed) {
      const auto instead = keep_or_close(object, line, entries);
      problem(parsed.error().message + instead.value_or(before));
      all_told = all_told && instead;
      continue;
    }
    if (!*parsed) {
      const auto told = ignored(object);
      if (told.relied_on)
        problem(told.text);
      else
        warnings_.push_back(fmt::format("{}:{}: {}", name_, line, told.text));
      continue;
    }
    for (const auto& warning : (*parsed)->warnings)
      warnings_.push_back(fmt::format("{}:{}: {}", name_, line, warning));
    if (auto* ns = std::get_if<model::Namespace>(&(*parsed)->object))
      ns->labels.set("kubernetes.io/metadata.name", ns->name);  // as the API server sees to
    auto key = model::key_of((*parsed)->object);
    const auto [place, inserted] = entries.try_emplace(std::move(key), Entry{(*parsed)->object, line});
    if (!inserted)
      problem(fmt::format("{} stands in line {} already; that one counts", to_string(place->first),
                          place->second.line));
  }
  known_ = known_ || all_told;
  // What cannot be told apart may be any of them.
  if (!all_told) entries.merge(entries_);
  entries_ = std::move(entries);
}

}  // namespace sluice::source
