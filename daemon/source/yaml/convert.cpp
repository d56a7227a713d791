// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/yaml/convert.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <regex>
#include <set>

namespace sluice::source {

namespace {

using nlohmann::json;

constexpr int kDepthMost = 64;
constexpr std::size_t kNodesMost = 1'000'000;  // an alias counts as often as it is used
constexpr std::string_view kTagPrefix = "tag:yaml.org,2002:";

struct Failure {
  std::string message;
  int line;
};

[[noreturn]] void refuse(const YAML::Node& node, const std::string& message) {
  throw Failure{message, node.Mark().line + 1};
}

// The strings of objects become part of JSON later, which allows nothing else.
bool is_utf8(const std::string& text) try {
  return !json(text).dump().empty();
} catch (const json::type_error&) {
  return false;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

template <typename Number>
std::optional<Number> number(std::string_view digits, int base) {
  Number value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<json> as_integer(const std::string& text) {
  std::string_view digits = text;
  if (digits.starts_with("0o") || digits.starts_with("0x")) {
    const auto value = number<std::uint64_t>(digits.substr(2), digits[1] == 'o' ? 8 : 16);
    return value ? std::optional<json>(*value) : std::nullopt;
  }
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  if (!all_digits(digits)) return std::nullopt;
  if (negative) {
    const auto value = number<std::int64_t>(text, 10);
    return value ? std::optional<json>(*value) : std::nullopt;
  }
  const auto value = number<std::uint64_t>(digits, 10);
  return value ? std::optional<json>(*value) : std::nullopt;
}

std::optional<json> as_float(const std::string& text) {
  static const std::regex form("[-+]?(\\.[0-9]+|[0-9]+(\\.[0-9]*)?)([eE][-+]?[0-9]+)?");
  static const std::regex infinite("[-+]?\\.(inf|Inf|INF)");
  if (text.size() > 64) return std::nullopt;
  if (text == ".nan" || text == ".NaN" || text == ".NAN")
    return json(std::numeric_limits<double>::quiet_NaN());
  if (std::regex_match(text, infinite)) {
    const double infinity = std::numeric_limits<double>::infinity();
    return json(text.front() == '-' ? -infinity : infinity);
  }
  if (!std::regex_match(text, form)) return std::nullopt;
  const std::string_view digits = std::string_view(text).substr(text.front() == '+' ? 1 : 0);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() ? std::optional<json>(value) : std::nullopt;
}

bool is_null(const std::string& text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

std::optional<json> as_boolean(const std::string& text) {
  if (text == "true" || text == "True" || text == "TRUE") return json(true);
  if (text == "false" || text == "False" || text == "FALSE") return json(false);
  return std::nullopt;
}

json scalar(const YAML::Node& node) {
  const auto& text = node.Scalar();
  std::string tag = node.Tag();
  if (tag.starts_with(kTagPrefix)) tag = tag.substr(kTagPrefix.size());
  // "!": quoted, or a block.
  if (tag == "!" || tag == "str") return text;
  if (tag.empty() || tag == "?") {
    if (is_null(text)) return nullptr;
    if (auto value = as_boolean(text)) return *value;
    if (auto value = as_integer(text)) return *value;
    if (auto value = as_float(text)) return *value;
    return text;
  }
  std::optional<json> value;
  if (tag == "null" && is_null(text)) return nullptr;
  if (tag == "bool") value = as_boolean(text);
  if (tag == "int") value = as_integer(text);
  if (tag == "float") value = as_float(text);
  if (!value) refuse(node, fmt::format("the value does not fit its tag '{}'", node.Tag()));
  return *value;
}

class Converter {
 public:
  json convert(const YAML::Node& node, int depth = 0) {
    if (depth > kDepthMost) refuse(node, fmt::format("nested deeper than {}", kDepthMost));
    if (++nodes_ > kNodesMost) refuse(node, fmt::format("more than {} values, aliases resolved", kNodesMost));
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        return scalar(node);
      case YAML::NodeType::Sequence:
        return sequence(node, depth);
      case YAML::NodeType::Map:
        return map(node, depth);
      case YAML::NodeType::Null:
      case YAML::NodeType::Undefined:
        break;
    }
    return nullptr;
  }

 private:
  json sequence(const YAML::Node& node, int depth) {
    json out = json::array();
    for (const auto& item : node) out.push_back(convert(item, depth + 1));
    return out;
  }

  json map(const YAML::Node& node, int depth) {
    json out = json::object();
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) refuse(node, "a key is no plain value");
      const auto& key = entry.first.Scalar();
      if (key == "<<") refuse(entry.first, "merge keys (<<) are not supported; write the fields out");
      // Which of two counts is a matter of the parser: an error, as in the standard.
      if (out.contains(key)) refuse(entry.first, fmt::format("key '{}' stands twice", key));
      out[key] = convert(entry.second, depth + 1);
    }
    return out;
  }

  std::size_t nodes_ = 0;
};

// "List" and the typed lists, whose items may leave their kind out (as in the API's own answers).
bool expand_list(const Document& list, const std::vector<int>& lines, std::vector<Document>& out) {
  const auto& whole = list.json;
  if (!whole.is_object() || !whole.contains("kind") || !whole["kind"].is_string()) return false;
  const auto kind = whole["kind"].get<std::string>();
  const auto items = whole.find("items");
  if (!kind.ends_with("List") || items == whole.end() || !items->is_array()) return false;
  for (std::size_t i = 0; i < items->size(); ++i) {
    Document item{(*items)[i], i < lines.size() ? lines[i] : list.line};
    if (kind != "List" && item.json.is_object()) {
      if (!item.json.contains("kind")) item.json["kind"] = kind.substr(0, kind.size() - 4);
      if (!item.json.contains("apiVersion") && whole.contains("apiVersion"))
        item.json["apiVersion"] = whole["apiVersion"];
    }
    out.push_back(std::move(item));
  }
  return true;
}

std::vector<Document> read_yaml(const std::string& text) {
  std::vector<Document> documents;
  Converter converter;
  for (const auto& node : YAML::LoadAll(text)) {
    Document document{converter.convert(node), node.Mark().line + 1};
    if (document.json.is_null()) continue;  // "---" alone
    std::vector<int> lines;
    if (node.IsMap()) {
      if (const auto items = node["items"]; items && items.IsSequence()) {
        for (const auto& item : items) lines.push_back(item.Mark().line + 1);
      }
    }
    if (!expand_list(document, lines, documents)) documents.push_back(std::move(document));
  }
  return documents;
}

// Refuses what is nested too deep and keys that stand twice, like the YAML reader.
class Watchdog {
 public:
  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    const auto level = static_cast<std::size_t>(depth);
    if (depth > kDepthMost && problem_.empty()) problem_ = fmt::format("nested deeper than {}", kDepthMost);
    if (!problem_.empty()) return false;
    if (keys_.size() <= level + 1) keys_.resize(level + 2);
    if (event == json::parse_event_t::object_start) keys_[level + 1].clear();
    if (event == json::parse_event_t::key && !keys_[level].insert(parsed.get<std::string>()).second)
      problem_ = fmt::format("key '{}' stands twice", parsed.get<std::string>());
    return problem_.empty();
  }
  const std::string& problem() const { return problem_; }

 private:
  std::vector<std::set<std::string>> keys_;  // by depth
  std::string problem_;
};

std::vector<Document> read_json(const std::string& text) {
  Watchdog watchdog;
  Document document;
  try {
    document.json = json::parse(text, [&](int depth, json::parse_event_t event, json& parsed) {
      return watchdog(depth, event, parsed);
    });
  } catch (const json::parse_error& error) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(error.byte, text.size()));
    throw Failure{"is not JSON", 1 + static_cast<int>(std::count(text.begin(), end, '\n'))};
  }
  if (!watchdog.problem().empty()) throw Failure{watchdog.problem(), 1};
  std::vector<Document> documents;
  if (!expand_list(document, {}, documents)) documents.push_back(std::move(document));
  return documents;
}

}  // namespace

tl::expected<std::vector<Document>, ConvertError> read_documents(const std::string& text, bool is_json) try {
  if (!is_utf8(text)) return tl::unexpected(ConvertError{"is not UTF-8", 1});
  return is_json ? read_json(text) : read_yaml(text);
} catch (const Failure& failure) {
  return tl::unexpected(ConvertError{failure.message, failure.line});
} catch (const YAML::Exception& error) {
  return tl::unexpected(ConvertError{error.msg, error.mark.line + 1});
} catch (const std::exception& error) {
  return tl::unexpected(ConvertError{error.what(), 1});
}

}  // namespace sluice::source
