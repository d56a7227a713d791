// SPDX-License-Identifier: Apache-2.0
// JSON as objects are read from it: many values in little memory, which is given back at once. An object may
// have a hundred thousand values, and a tenant may send such objects all day.
//
// A Tree says what nlohmann::json says of the same text: what is no JSON, how a number is read, that the last
// of several members of one name counts, and that members are in the order of their names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sluice::model {

class Value {
 public:
  enum class Type : std::uint8_t { kNull, kBoolean, kUnsigned, kNegative, kReal, kText, kList, kMap };
  struct Member;

  Value() = default;  // null
  explicit Value(bool value) : type_(Type::kBoolean), boolean_(value) {}
  explicit Value(std::uint64_t value) : type_(Type::kUnsigned), unsigned_(value) {}
  explicit Value(std::int64_t value) : type_(Type::kNegative), negative_(value) {}
  explicit Value(double value) : type_(Type::kReal), real_(value) {}
  explicit Value(std::string_view text) : type_(Type::kText), size_(text.size()), text_(text.data()) {}
  explicit Value(std::span<const Value> items)
      : type_(Type::kList), size_(items.size()), items_(items.data()) {}
  explicit Value(std::span<const Member> members);  // sorted by key, each once

  [[nodiscard]] Type type() const { return type_; }
  [[nodiscard]] bool is_null() const { return type_ == Type::kNull; }
  [[nodiscard]] bool is_boolean() const { return type_ == Type::kBoolean; }
  [[nodiscard]] bool is_text() const { return type_ == Type::kText; }
  [[nodiscard]] bool is_list() const { return type_ == Type::kList; }
  [[nodiscard]] bool is_map() const { return type_ == Type::kMap; }

  // Each only of its type.
  [[nodiscard]] bool boolean() const { return boolean_; }
  [[nodiscard]] std::uint64_t whole() const { return unsigned_; }
  [[nodiscard]] std::int64_t negative() const { return negative_; }
  [[nodiscard]] double real() const { return real_; }
  [[nodiscard]] std::string_view text() const { return {text_, size_}; }
  [[nodiscard]] std::span<const Value> items() const { return {items_, size_}; }
  [[nodiscard]] std::span<const Member> members() const;

  // A member's value; nullptr: there is none, or this is no map.
  [[nodiscard]] const Value* find(std::string_view key) const;

 private:
  Type type_ = Type::kNull;
  std::size_t size_ = 0;  // of a text, list or map
  union {
    bool boolean_;
    std::uint64_t unsigned_ = 0;
    std::int64_t negative_;
    double real_;
    const char* text_;
    const Value* items_;
    const Member* members_;
  };
};

struct Value::Member {
  std::string_view key;
  Value value;
};

inline Value::Value(std::span<const Member> members)
    : type_(Type::kMap), size_(members.size()), members_(members.data()) {}
inline std::span<const Value::Member> Value::members() const { return {members_, size_}; }

// Owns the values under its root, texts included.
class Tree {
 public:
  // None: it is no JSON, or nested deeper than that.
  [[nodiscard]] static std::optional<Tree> parse(std::string_view json, std::size_t depth_most);
  explicit Tree(const nlohmann::json& json);
  [[nodiscard]] const Value& root() const { return root_; }

 private:
  class Builder;
  explicit Tree(std::size_t expected);  // bytes of memory

  std::unique_ptr<std::pmr::monotonic_buffer_resource> memory_;  // behind a pointer, so that a Tree can move
  Value root_;
};

// The text of a member of a member, "" if it is none: text_at(value, "metadata", "name").
[[nodiscard]] std::string text_at(const Value& value, std::string_view outer, std::string_view inner);

}  // namespace sluice::model
