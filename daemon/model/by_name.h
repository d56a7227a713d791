// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

namespace sluice::model {

// The name of an object in a namespace. Refers to text that somebody else has.
struct NamespacedName {
  std::string_view ns, name;
  bool operator==(const NamespacedName&) const = default;
  // Of "namespace/name".
  [[nodiscard]] static NamespacedName of(std::string_view key) {
    const auto slash = key.find('/');
    return {key.substr(0, slash), key.substr(slash + 1)};
  }
};

// To keep objects in an unordered_set by their own names: a key beside each would be the names once more,
// for a hundred thousand pods. `NameOf` gives the name of an element.
template <typename NameOf>
struct HashByName {
  using is_transparent = void;
  std::size_t operator()(const NamespacedName& name) const {
    const std::hash<std::string_view> hash;
    return hash(name.ns) * 31 + hash(name.name);
  }
  template <typename Element>
  std::size_t operator()(const Element& element) const {
    return (*this)(NameOf()(element));
  }
};

template <typename NameOf>
struct EqualByName {
  using is_transparent = void;
  template <typename Left, typename Right>
  bool operator()(const Left& left, const Right& right) const {
    return name(left) == name(right);
  }

 private:
  static NamespacedName name(const NamespacedName& name) { return name; }
  template <typename Element>
  static NamespacedName name(const Element& element) {
    return NameOf()(element);
  }
};

}  // namespace sluice::model
