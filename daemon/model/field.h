// SPDX-License-Identifier: Apache-2.0
// Internal to the model: a JSON value together with where it stands, read with checks.
//
// The first error sticks in the Context and everything read after it is a harmless default, so that a parser
// reads straight down its fields and asks once, at the end, whether all went well. null is as good as absent,
// as it is to the API server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/address.h"
#include "daemon/model/objects.h"
#include "daemon/model/tree.h"

namespace sluice::model {

// Where a value stands is put into words only for a message: an object may have tens of thousands of values.
struct Context {
  struct Step {
    std::uint32_t parent = 0;  // index of the step before
    enum class Kind { kRoot, kMember, kEntry, kItem } kind = Kind::kRoot;
    std::uint32_t index = 0;  // of an item
    // Of a member (a field's name) or an entry (of a map whose keys are the user's); lives elsewhere.
    std::string_view key;
  };
  std::string error;  // empty: none so far
  std::vector<std::string> warnings;
  std::vector<Step> steps;
  [[nodiscard]] bool failed() const { return !error.empty(); }
  // "spec.ingress[0].from[2]"
  [[nodiscard]] std::string path(std::uint32_t step) const;
};

class Items;

class Field {
 public:
  // The value that the others are in. `name`: what their paths begin with; a literal.
  Field(Context& context, const Value* value, std::string_view name = "");

  [[nodiscard]] bool present() const { return value_ != nullptr; }
  [[nodiscard]] bool is_text() const { return value_ != nullptr && value_->is_text(); }

  // A member; absent if there is none. The key has to live as long as the context.
  [[nodiscard]] Field at(std::string_view key) const;
  [[nodiscard]] Items items() const;                       // of a list; none if absent
  [[nodiscard]] std::string text() const;                  // "" if absent
  [[nodiscard]] std::string required_text() const;         // an error if absent or empty
  [[nodiscard]] std::uint16_t port_number() const;         // an error unless a number from 1 to 65535
  [[nodiscard]] std::string port_name() const;             // an error unless an IANA service name
  [[nodiscard]] std::optional<Protocol> protocol() const;  // TCP if absent; none: an error was noted
  [[nodiscard]] std::optional<Address> address() const;    // none: an error was noted
  [[nodiscard]] std::optional<Prefix> cidr() const;        // none: an error was noted
  [[nodiscard]] Labels labels() const;                     // keys and values checked

  [[nodiscard]] Items items(std::size_t most) const;  // an error if there are more
  [[nodiscard]] bool boolean(bool if_absent = false) const;
  // An error if absent or out of bounds.
  [[nodiscard]] std::uint32_t number(std::uint32_t least, std::uint32_t most) const;
  [[nodiscard]] std::uint16_t optional_port_number() const;  // as port_number(), but absent and 0 are 0
  [[nodiscard]] std::optional<Prefix> padded_cidr() const;   // as cidr(), white space around it taken off

  // Warns about each member that is none of `known`; true if there is one.
  [[nodiscard]] bool has_unknown(std::initializer_list<std::string_view> known) const;

  void fail(const std::string& what) const;
  void warn(const std::string& what) const;

 private:
  Field(Context& context, const Value* value, const Context::Step& step);
  friend class Items;
  [[nodiscard]] Field entry(std::string_view key, const Value& value) const;
  [[nodiscard]] std::string_view view() const;  // as text()
  [[nodiscard]] std::optional<Prefix> cidr_of(std::string_view text) const;
  [[nodiscard]] bool is_number_between(std::uint64_t least, std::uint64_t most) const;
  bool expect(bool type_is_right, const char* type) const;

  Context* context_;
  const Value* value_;  // null: absent
  std::uint32_t step_;  // of the context's
};

// The items of a list, one after the other. An item, and each Field made while it is at hand, ends when the
// next one comes: where they stand is forgotten then, since a list may have tens of thousands of items.
class Items {
 public:
  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = Field;
    Field operator*() const;
    Iterator& operator++();
    bool operator==(const Iterator& other) const { return index_ == other.index_; }

   private:
    friend class Items;
    Iterator(const Items& items, std::size_t index)
        : items_(&items), index_(index), steps_(items.list_.context_->steps.size()) {}
    const Items* items_;
    std::size_t index_;
    std::size_t steps_;  // of the context, before the first item
  };

  Items(const Field& list, std::span<const Value> values) : list_(list), values_(values) {}
  [[nodiscard]] std::size_t size() const { return values_.size(); }
  [[nodiscard]] bool empty() const { return values_.empty(); }
  [[nodiscard]] Iterator begin() const { return {*this, 0}; }
  [[nodiscard]] Iterator end() const { return {*this, size()}; }

 private:
  Field list_;
  std::span<const Value> values_;
};

// A string from outside, fit to be quoted in a message: shortened, and ASCII only, since
// what comes from YAML may be no UTF-8 and messages are sent on as JSON.
[[nodiscard]] std::string printable(std::string_view text);

[[nodiscard]] bool is_label_key(std::string_view key);       // "app", "example.com/app"
[[nodiscard]] bool is_label_value(std::string_view value);   // may be empty
[[nodiscard]] bool is_dns_label(std::string_view name);      // RFC 1123, at most 63 characters
[[nodiscard]] bool is_dns_subdomain(std::string_view name);  // labels joined by dots, at most 253 characters

// spec of a NetworkPolicy into `policy`, defaults applied (parse_policy.cpp).
void parse_policy_spec(const Field& spec, NetworkPolicy& policy);
// Of a spec that parse_policy_spec() refuses: whom it selects, and isolates, as widely as it may be meant.
void close_policy_spec(const Value* spec, NetworkPolicy& policy);

// spec and status of a Service, and all but the metadata of an EndpointSlice (parse_service.cpp).
void parse_service_body(const Field& root, Service& service);
void parse_endpoint_slice_body(const Field& root, EndpointSlice& slice);

}  // namespace sluice::model
