// SPDX-License-Identifier: Apache-2.0
#include "daemon/model/field.h"

#include <algorithm>

namespace sluice::model {

namespace {

constexpr std::size_t kQuotedMost = 80;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_alphanumeric(char c) { return is_digit(c) || is_lower(c) || is_upper(c); }

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// What label keys' names and label values have in common.
bool is_label_name(std::string_view name) {
  if (name.empty() || name.size() > 63) return false;
  if (!is_alphanumeric(name.front()) || !is_alphanumeric(name.back())) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return is_alphanumeric(c) || c == '-' || c == '_' || c == '.'; });
}

// RFC 6335, 5.1, as the API server checks it.
bool is_service_name(std::string_view name) {
  if (name.empty() || name.size() > 15 || name.front() == '-' || name.back() == '-') return false;
  if (name.find("--") != std::string_view::npos) return false;
  return std::any_of(name.begin(), name.end(), is_lower) &&
         std::all_of(name.begin(), name.end(), [](char c) { return is_lower(c) || is_digit(c) || c == '-'; });
}

// A value in words, never its inside, which may be of any length.
std::string describe(const Value& value) {
  switch (value.type()) {
    case Value::Type::kNull:
      return "null";
    case Value::Type::kBoolean:
      return value.boolean() ? "true" : "false";
    case Value::Type::kUnsigned:
      return std::to_string(value.whole());
    case Value::Type::kNegative:
      return std::to_string(value.negative());
    case Value::Type::kReal:
      return nlohmann::json(value.real()).dump();
    case Value::Type::kText:
      return "'" + printable(value.text()) + "'";
    case Value::Type::kList:
      return "a list";
    case Value::Type::kMap:
      break;
  }
  return "a map";
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kQuotedMost));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  if (text.size() > kQuotedMost) out += "...";
  return out;
}

bool is_dns_label(std::string_view name) {
  if (name.empty() || name.size() > 63 || name.front() == '-' || name.back() == '-') return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return is_lower(c) || is_digit(c) || c == '-'; });
}

bool is_dns_subdomain(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const auto part = name.substr(begin, end - begin);
    // A part of a subdomain may be longer than a label of DNS: the API server checks the whole length only.
    if (part.empty() || part.front() == '-' || part.back() == '-') return false;
    if (!std::all_of(part.begin(), part.end(), [](char c) { return is_lower(c) || is_digit(c) || c == '-'; }))
      return false;
    begin = end + 1;
  }
  return true;
}

bool is_label_key(std::string_view key) {
  const auto slash = key.find('/');
  if (slash == std::string_view::npos) return is_label_name(key);
  return is_dns_subdomain(key.substr(0, slash)) && is_label_name(key.substr(slash + 1));
}

bool is_label_value(std::string_view value) { return value.empty() || is_label_name(value); }

std::string Context::path(std::uint32_t step) const {
  const Step& last = steps[step];
  if (last.kind == Step::Kind::kRoot) return std::string(last.key);
  const auto before = path(last.parent);
  switch (last.kind) {
    case Step::Kind::kItem:
      return fmt::format("{}[{}]", before, last.index);
    case Step::Kind::kEntry:
      return fmt::format("{}[{}]", before, printable(last.key));
    default:
      return before.empty() ? printable(last.key) : before + "." + printable(last.key);
  }
}

Field::Field(Context& context, const Value* value, std::string_view name)
    : Field(context, value, Context::Step{0, Context::Step::Kind::kRoot, 0, name}) {}

Field::Field(Context& context, const Value* value, const Context::Step& step)
    : context_(&context),
      value_(value != nullptr && value->is_null() ? nullptr : value),
      step_(static_cast<std::uint32_t>(context.steps.size())) {
  context.steps.push_back(step);
}

Field Field::entry(std::string_view key, const Value& value) const {
  return {*context_, &value, {step_, Context::Step::Kind::kEntry, 0, key}};
}

void Field::fail(const std::string& what) const {
  if (!context_->error.empty()) return;
  const auto path = context_->path(step_);
  context_->error = path.empty() ? what : path + ": " + what;
}

void Field::warn(const std::string& what) const {
  context_->warnings.push_back(context_->path(step_) + ": " + what);
}

bool Field::expect(bool type_is_right, const char* type) const {
  if (!type_is_right) fail(fmt::format("{} is not {}", describe(*value_), type));
  return type_is_right;
}

Field Field::at(std::string_view key) const {
  const Context::Step step{step_, Context::Step::Kind::kMember, 0, key};
  if (value_ == nullptr || !expect(value_->is_map(), "a map")) return {*context_, nullptr, step};
  return {*context_, value_->find(key), step};
}

Items Field::items() const {
  if (value_ == nullptr || !expect(value_->is_list(), "a list")) return {*this, {}};
  return {*this, value_->items()};
}

Items Field::items(std::size_t most) const {
  if (value_ == nullptr || !value_->is_list() || value_->items().size() <= most) return items();
  fail(fmt::format("has {} items; {} is the most", value_->items().size(), most));
  return {*this, {}};
}

Field Items::Iterator::operator*() const {
  return {*items_->list_.context_,
          &items_->values_[index_],
          {items_->list_.step_, Context::Step::Kind::kItem, static_cast<std::uint32_t>(index_), {}}};
}

Items::Iterator& Items::Iterator::operator++() {
  items_->list_.context_->steps.resize(steps_);
  ++index_;
  return *this;
}

std::string_view Field::view() const {
  if (value_ == nullptr || !expect(value_->is_text(), "a string")) return {};
  return value_->text();
}

std::string Field::text() const { return std::string(view()); }

std::string Field::required_text() const {
  auto value = text();
  if (value.empty()) fail("is missing");
  return value;
}

bool Field::boolean(bool if_absent) const {
  if (value_ == nullptr || !expect(value_->is_boolean(), "true or false")) return if_absent;
  return value_->boolean();
}

bool Field::is_number_between(std::uint64_t least, std::uint64_t most) const {
  return value_->type() == Value::Type::kUnsigned && value_->whole() >= least && value_->whole() <= most;
}

std::uint32_t Field::number(std::uint32_t least, std::uint32_t most) const {
  if (value_ == nullptr) {
    fail("is missing");
    return least;
  }
  if (is_number_between(least, most)) return static_cast<std::uint32_t>(value_->whole());
  fail(fmt::format("{} is not a number from {} to {}", describe(*value_), least, most));
  return least;
}

std::uint16_t Field::port_number() const {
  if (value_ == nullptr) {
    fail("is missing");
    return 0;
  }
  if (!expect(is_number_between(1, 65535), "a port number from 1 to 65535")) return 0;
  return static_cast<std::uint16_t>(value_->whole());
}

std::uint16_t Field::optional_port_number() const {
  return value_ == nullptr || is_number_between(0, 0) ? std::uint16_t{0} : port_number();
}

std::string Field::port_name() const {
  auto name = text();
  if (!context_->failed() && !is_service_name(name))
    fail(fmt::format("'{}' is not a port name: at most 15 of a-z, 0-9 and single inner '-', with a letter",
                     printable(name)));
  return name;
}

std::optional<Protocol> Field::protocol() const {
  if (value_ == nullptr) return Protocol::kTcp;
  const auto name = view();
  if (name == "TCP") return Protocol::kTcp;
  if (name == "UDP") return Protocol::kUdp;
  if (name == "SCTP") return Protocol::kSctp;
  fail(fmt::format("'{}' is not TCP, UDP or SCTP", printable(name)));
  return std::nullopt;
}

std::optional<Address> Field::address() const {
  const auto value = view();
  // inet_pton() stops at a NUL that JSON can carry.
  if (value.find('\0') == std::string_view::npos) {
    if (auto address = Address::parse(value)) return *address;
  }
  fail(fmt::format("'{}' is not an IP address", printable(value)));
  return std::nullopt;
}

std::optional<Prefix> Field::cidr() const { return cidr_of(view()); }

std::optional<Prefix> Field::padded_cidr() const { return cidr_of(trimmed(view())); }

std::optional<Prefix> Field::cidr_of(std::string_view value) const {
  // Prefix::parse() takes a bare address as well; the API does not.
  if (value.find('\0') == std::string_view::npos && value.find('/') != std::string_view::npos) {
    if (auto prefix = Prefix::parse(value)) return *prefix;
  }
  fail(fmt::format("'{}' is not a CIDR such as 10.0.0.0/8 or fd00::/64", printable(value)));
  return std::nullopt;
}

Labels Field::labels() const {
  Labels::Map labels;
  if (value_ == nullptr || !expect(value_->is_map(), "a map")) return {};
  for (const auto& [key, value] : value_->members()) {
    const Field field = entry(key, value);
    auto content = field.text();  // null is the empty value, as for the API server
    if (!is_label_key(key)) {
      field.fail("is not a label key such as app or example.com/app");
    } else if (!is_label_value(content)) {
      field.fail(
          fmt::format("'{}' is not a label value: at most 63 of A-Z, a-z, 0-9, '-', '_', '.', "
                      "beginning and ending with a letter or digit",
                      printable(content)));
    }
    if (context_->failed()) return {};
    labels.emplace(key, std::move(content));
  }
  return Labels(labels);
}

bool Field::has_unknown(std::initializer_list<std::string_view> known) const {
  if (value_ == nullptr || !expect(value_->is_map(), "a map")) return false;
  bool unknown = false;
  for (const auto& [key, value] : value_->members()) {
    if (value.is_null() || std::find(known.begin(), known.end(), key) != known.end()) continue;
    at(key).warn("this version of Sluice does not know the field; what it stands in admits nothing");
    unknown = true;
  }
  return unknown;
}

}  // namespace sluice::model
