// SPDX-License-Identifier: Apache-2.0
#include "daemon/model/tree.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace sluice::model {

// What nlohmann's parser reads, in the order of the text. Of a list or map that has not ended the values
// stand apart; they go where they stay, all in one piece, when it ends.
class Tree::Builder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(Tree& tree, std::size_t depth_most = SIZE_MAX) : tree_(tree), depth_most_(depth_most) {}

  bool null() override { return add(Value()); }
  bool boolean(bool value) override { return add(Value(value)); }
  bool number_integer(number_integer_t value) override {
    return add(value < 0 ? Value(value) : Value(static_cast<std::uint64_t>(value)));
  }
  bool number_unsigned(number_unsigned_t value) override { return add(Value(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add(Value(value)); }
  bool string(string_t& value) override { return add(Value(kept(value))); }
  bool binary(binary_t&) override { return false; }  // no JSON has any
  bool start_array(std::size_t) override { return start(); }
  bool start_object(std::size_t) override { return start(); }
  bool key(string_t& value) override {
    key_ = kept(value);
    return true;
  }
  bool end_array() override {
    const auto members = pending();
    const auto items = room<Value>(members.size());
    std::ranges::transform(members, items.begin(), &Value::Member::value);
    return end(Value(std::span<const Value>(items)));
  }
  bool end_object() override {
    const auto members = pending();
    const auto before = [](const auto& a, const auto& b) { return a.key < b.key; };
    if (!std::ranges::is_sorted(members, before)) std::ranges::stable_sort(members, before);
    std::size_t count = 0;
    for (const auto& member : members) {
      if (count == 0 || members[count - 1].key != member.key) ++count;
      members[count - 1] = member;
    }
    const auto kept_members = room<Value::Member>(count);
    std::ranges::copy(members.first(count), kept_members.begin());
    return end(Value(std::span<const Value::Member>(kept_members)));
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  struct Open {
    std::size_t first;     // of its values in pending_
    std::string_view key;  // its own
  };

  // That stays as long as the tree.
  template <typename Each>
  std::span<Each> room(std::size_t count) {
    static_assert(std::is_trivially_destructible_v<Each>);
    if (count == 0) return {};
    auto* place = static_cast<Each*>(tree_.memory_->allocate(count * sizeof(Each), alignof(Each)));
    std::uninitialized_default_construct_n(place, count);
    return {place, count};
  }
  std::string_view kept(const std::string& text) {
    const auto letters = room<char>(text.size());
    std::ranges::copy(text, letters.begin());
    return {letters.data(), letters.size()};
  }
  std::span<Value::Member> pending() { return std::span(pending_).subspan(open_.back().first); }
  bool add(const Value& value) {
    if (open_.empty())
      tree_.root_ = value;
    else
      pending_.push_back({key_, value});
    return true;
  }
  bool start() {
    if (open_.size() >= depth_most_) return false;
    open_.push_back({pending_.size(), key_});
    return true;
  }
  bool end(const Value& value) {
    const auto done = open_.back();
    open_.pop_back();
    pending_.resize(done.first);
    key_ = done.key;
    return add(value);
  }

  Tree& tree_;
  const std::size_t depth_most_;
  std::vector<Value::Member> pending_;  // those of a list have no key that counts
  std::vector<Open> open_;
  std::string_view key_;  // of the value that comes next
};

Tree::Tree(std::size_t expected)
    : memory_(std::make_unique<std::pmr::monotonic_buffer_resource>(std::max<std::size_t>(expected, 64))) {}

std::optional<Tree> Tree::parse(std::string_view json, std::size_t depth_most) {
  Tree tree(json.size());
  Builder builder(tree, depth_most);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &builder)) return std::nullopt;
  return tree;
}

// Without recursion: how deep it is nested is not known here.
Tree::Tree(const nlohmann::json& json) : Tree(std::size_t{0}) {
  struct Open {
    const nlohmann::json& value;
    nlohmann::json::const_iterator next;
  };
  std::vector<Open> open;
  Builder builder(*this);
  const auto enter = [&](const nlohmann::json& value) {
    using Type = nlohmann::json::value_t;
    switch (value.type()) {
      case Type::object:
        builder.start_object(value.size());
        open.push_back({value, value.begin()});
        break;
      case Type::array:
        builder.start_array(value.size());
        open.push_back({value, value.begin()});
        break;
      case Type::string: {
        auto text = value.get<std::string>();
        builder.string(text);
        break;
      }
      case Type::boolean:
        builder.boolean(value.get<bool>());
        break;
      case Type::number_integer:
        builder.number_integer(value.get<std::int64_t>());
        break;
      case Type::number_unsigned:
        builder.number_unsigned(value.get<std::uint64_t>());
        break;
      case Type::number_float:
        builder.number_float(value.get<double>(), {});
        break;
      default:
        builder.null();
    }
  };
  enter(json);
  while (!open.empty()) {
    auto& [value, next] = open.back();
    if (next == value.end()) {
      value.is_object() ? builder.end_object() : builder.end_array();
      open.pop_back();
      continue;
    }
    const auto current = next++;
    if (value.is_object()) {
      auto key = current.key();
      builder.key(key);
    }
    enter(*current);
  }
}

const Value* Value::find(std::string_view key) const {
  if (!is_map()) return nullptr;
  const auto found = std::ranges::lower_bound(members(), key, {}, &Member::key);
  return found != members().end() && found->key == key ? &found->value : nullptr;
}

std::string text_at(const Value& value, std::string_view outer, std::string_view inner) {
  const auto* part = value.find(outer);
  const auto* text = part == nullptr ? nullptr : part->find(inner);
  return text == nullptr || !text->is_text() ? std::string() : std::string(text->text());
}

}  // namespace sluice::model
