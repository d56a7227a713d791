// SPDX-License-Identifier: Apache-2.0
#include "daemon/install/conflist.h"

#include <algorithm>
#include <filesystem>
#include <functional>

#include "common/json_guard.h"

namespace sluice::install {

namespace {

constexpr const char* kOwnPlugins = "sluicePlugins";
constexpr int kMaxDepth = 64;

using Types = std::vector<std::string>;

std::string text_of(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string type_of(const Json& plugin) { return text_of(plugin, "type"); }

Types types_of(const Json& plugins) {
  Types types;
  for (const auto& plugin : plugins) types.push_back(type_of(plugin));
  return types;
}

// What the list itself notes, else what stands in `ours`.
Types own_types(const Json& on_node, const Json& ours) {
  const auto noted = on_node.find(kOwnPlugins);
  if (noted == on_node.end() || !noted->is_array()) return types_of(ours.at("plugins"));
  Types types;
  for (const auto& type : *noted)
    if (type.is_string()) types.push_back(type.get<std::string>());
  return types;
}

struct Split {
  Types own;                // types of its own plugins, in their order
  std::vector<Json> added;  // by others
  std::vector<bool> is_own;
};

// Each of the types that are its own is taken once: of two plugins of one type, the second is somebody
// else's. Only Sluice's is never added by others: twice it could not work. Nor could a plugin without a type.
Split split(const Json& list, Types expected) {
  Split result;
  for (const auto& plugin : list.at("plugins")) {
    const auto type = type_of(plugin);
    const auto found = std::ranges::find(expected, type);
    result.is_own.push_back(found != expected.end() || type == kPlugin || type.empty());
    if (found != expected.end()) expected.erase(found);
    if (result.is_own.back())
      result.own.push_back(type);
    else
      result.added.push_back(plugin);
  }
  return result;
}

}  // namespace

Result<Json> parse_configuration(const std::string& text) try {
  JsonGuard guard(kMaxDepth);
  auto configuration = Json::parse(text, std::ref(guard));
  if (guard.too_deep()) return failure("it is nested deeper than {}", kMaxDepth);
  if (guard.repeated_key()) return failure("a key stands twice in one object");
  if (!configuration.is_object()) return failure("it is not a JSON object");
  return configuration;
} catch (const Json::exception& error) {
  return failure("it is not valid JSON: {}", error.what());
}

Result<Json> parse_own_list(const std::string& text) {
  auto list = parse_configuration(text);
  if (!list) return list;
  const auto plugins = list->find("plugins");
  if (plugins == list->end() || !plugins->is_array()) return failure("it is not a list of CNI plugins");
  if (std::ranges::none_of(*plugins, [](const Json& each) { return type_of(each) == kPlugin; }))
    return failure("{} is not among its plugins", kPlugin);
  return list;
}

bool begins_with_sluice(const Json& list) { return type_of(list.at("plugins").front()) == kPlugin; }

Json without_added(const Json& ours) {
  auto list = ours;
  list[kOwnPlugins] = types_of(ours.at("plugins"));
  return list;
}

Json with_added(const Json& ours, const Json& on_node) {
  auto list = without_added(ours);
  auto& plugins = list["plugins"];
  const auto parts = split(on_node, own_types(on_node, ours));
  if (begins_with_sluice(on_node) && parts.own == types_of(ours.at("plugins"))) {
    plugins = Json::array();
    for (std::size_t i = 0, own = 0; i < parts.is_own.size(); ++i)
      plugins.push_back(parts.is_own[i] ? ours["plugins"][own++] : on_node["plugins"][i]);
  } else {
    for (const auto& plugin : parts.added) plugins.push_back(plugin);
  }
  return list;
}

std::vector<std::string> added_types(const Json& on_node) {
  return types_of(split(on_node, own_types(on_node, on_node)).added);
}

bool leads_to_sluice(const Json& configuration) {
  if (type_of(configuration) == kPlugin) return true;
  // Multus takes the name of the network, or of its file with or without what comes before and behind.
  const std::string network = std::filesystem::path(text_of(configuration, "clusterNetwork")).filename();
  for (const auto* name : {kConflist, "05-sluice", "sluice"})
    if (network == name) return true;
  for (const auto* called : {"plugins", "delegates"}) {
    const auto found = configuration.is_object() ? configuration.find(called) : configuration.end();
    if (found != configuration.end() && found->is_array() && !found->empty())
      return leads_to_sluice(found->front());
  }
  return false;
}

}  // namespace sluice::install
