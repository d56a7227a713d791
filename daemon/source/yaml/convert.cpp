// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/yaml/convert.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>

#include "common/json_guard.h"

namespace sluice::source {

namespace {

using nlohmann::json;

constexpr int kDepthMost = 64;
// Of values; an alias counts as often as it is used. Without aliases a file has fewer values than bytes.
constexpr std::size_t kAliasedMost = 10'000;
constexpr std::string_view kTagPrefix = "tag:yaml.org,2002:";

struct Failure {
  std::string message;
  int line;
};

[[noreturn]] void refuse(const YAML::Mark& mark, const std::string& message) {
  throw Failure{message, mark.line + 1};
}

// The strings of objects become part of JSON later, which allows nothing else.
bool is_utf8(const std::string& text) try {
  return !json(text).dump().empty();
} catch (const json::type_error&) {
  return false;
}

template <typename Number>
std::optional<Number> number(std::string_view digits, int base) {
  Number value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

// As kubectl reads numbers (YAML 1.1): 0120 and 0o120 are octal, 0b101 is binary, 1_000 is 1000. What has a 0
// in front and is not octal, such as 089, becomes a float below.
std::optional<json> as_integer(const std::string& text) {
  std::string digits = text;
  if (digits.empty() || digits.front() == '_') return std::nullopt;
  std::erase(digits, '_');
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.erase(0, 1);
  int base = 10;
  if (digits.size() > 1 && digits.front() == '0') {
    const char mark = digits[1];
    base = mark == 'x' || mark == 'X' ? 16 : mark == 'b' || mark == 'B' ? 2 : 8;
    const bool marked = base != 8 || mark == 'o' || mark == 'O';
    digits.erase(0, marked ? 2 : 1);
  }
  // from_chars() would take a second sign.
  if (digits.empty() || digits.front() == '-') return std::nullopt;
  if (negative) {
    const auto value = number<std::int64_t>("-" + digits, base);
    return value ? std::optional<json>(*value) : std::nullopt;
  }
  const auto value = number<std::uint64_t>(digits, base);
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

// The words of YAML 1.1, which kubectl knows.
std::optional<json> as_boolean(const std::string& text) {
  static const std::set<std::string> yes{"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"};
  static const std::set<std::string> no{"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"};
  if (yes.contains(text)) return json(true);
  if (no.contains(text)) return json(false);
  return std::nullopt;
}

json scalar(const YAML::Mark& mark, std::string tag, const std::string& text) {
  const auto whole_tag = tag;
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
  if (!value) refuse(mark, fmt::format("the value does not fit its tag '{}'", whole_tag));
  return *value;
}

// Builds JSON from the parser's events, so that nothing grows beyond the bounds on the way either: what an
// alias stands for is copied only if it fits, and a parser that does not come forward is ended (yaml-cpp 0.7
// gives empty documents without end for some inputs).
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(std::size_t bytes)
      : values_most_(std::max(bytes, kAliasedMost)), events_most_(4 * bytes + 64) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    count_event(mark);
    document_ = Document{nullptr, mark.line + 1};
    has_root_ = false;
    lines_.clear();
    anchors_.clear();
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(mark, anchor, nullptr, 1); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) refuse(mark, "an alias stands inside of what it is for");
    count_values(mark, found->second.values);
    add(mark, YAML::NullAnchor, json(found->second.json), 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (!wants_key()) return add(mark, anchor, scalar(mark, tag, value), 1);
    count_event(mark);
    if (value == "<<") refuse(mark, "merge keys (<<) are not supported; write the fields out");
    auto& top = open_.back();
    // Which of two counts is a matter of the parser: an error, as in the standard.
    if (top.json.contains(value)) refuse(mark, fmt::format("key '{}' stands twice", value));
    top.key = value;
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(mark, anchor, json::array());
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(mark, anchor, json::object());
  }
  void OnMapEnd() override { end(); }

  Document take() { return std::move(document_); }
  const std::vector<int>& lines_of_items() const { return lines_; }

 private:
  struct Open {
    nlohmann::json json;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    std::size_t values_before;
    std::optional<std::string> key;  // of a map, when its value comes next
  };
  struct Anchored {
    nlohmann::json json;
    std::size_t values;
  };

  bool wants_key() const { return !open_.empty() && open_.back().json.is_object() && !open_.back().key; }
  void count_event(const YAML::Mark& mark) {
    if (++events_ > events_most_) refuse(mark, "is not YAML");
  }
  void count_values(const YAML::Mark& mark, std::size_t count) {
    values_ += count;
    if (values_ > values_most_)
      refuse(mark, fmt::format("more than {} values, aliases resolved", values_most_));
  }
  void begin(const YAML::Mark& mark, YAML::anchor_t anchor, json empty) {
    count_event(mark);
    if (wants_key()) refuse(mark, "a key is no plain value");
    if (open_.size() > static_cast<std::size_t>(kDepthMost))
      refuse(mark, fmt::format("nested deeper than {}", kDepthMost));
    open_.push_back({std::move(empty), mark, anchor, values_, {}});
    count_values(mark, 1);
  }
  void end() {
    auto done = std::move(open_.back());
    open_.pop_back();
    if (done.anchor != YAML::NullAnchor) anchors_[done.anchor] = {done.json, values_ - done.values_before};
    place(done.mark, std::move(done.json));
  }
  void add(const YAML::Mark& mark, YAML::anchor_t anchor, json value, std::size_t values) {
    count_event(mark);
    count_values(mark, values);
    if (wants_key()) refuse(mark, "a key is no plain value");
    if (anchor != YAML::NullAnchor) anchors_[anchor] = {value, 1};
    place(mark, std::move(value));
  }
  void place(const YAML::Mark& mark, json value) {
    if (open_.empty()) {
      if (has_root_) refuse(mark, "is not YAML");
      has_root_ = true;
      document_.json = std::move(value);
      if (mark.line >= 0) document_.line = mark.line + 1;
      return;
    }
    auto& top = open_.back();
    if (top.json.is_array()) {
      if (open_.size() == 2 && open_.front().key == "items") lines_.push_back(mark.line + 1);
      top.json.push_back(std::move(value));
    } else {
      top.json[*top.key] = std::move(value);
      top.key.reset();
    }
  }

  const std::size_t values_most_, events_most_;
  std::size_t values_ = 0, events_ = 0;  // of the whole file
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  Document document_;
  bool has_root_ = false;
  std::vector<int> lines_;  // of the root's `items`
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
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Builder builder(text.size());
  while (parser.HandleNextDocument(builder)) {
    auto document = builder.take();
    if (document.json.is_null()) continue;  // "---" alone
    if (!expand_list(document, builder.lines_of_items(), documents)) documents.push_back(std::move(document));
  }
  return documents;
}

std::vector<Document> read_json(const std::string& text) {
  JsonGuard guard(kDepthMost);  // refuses what the YAML reader does
  Document document;
  try {
    document.json = json::parse(text, std::ref(guard));
  } catch (const json::parse_error& error) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(error.byte, text.size()));
    throw Failure{"is not JSON", 1 + static_cast<int>(std::count(text.begin(), end, '\n'))};
  }
  if (guard.too_deep()) throw Failure{fmt::format("nested deeper than {}", kDepthMost), 1};
  if (guard.repeated_key()) throw Failure{fmt::format("key '{}' stands twice", *guard.repeated_key()), 1};
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
