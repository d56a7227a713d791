// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

namespace sluice::datapath {

// What is free of the numbers first … end-1: of slots and ids in an array of the kernel's.
class Ranges {
 public:
  Ranges(std::uint32_t first, std::uint32_t end) { free_.emplace(first, end - first); }

  // The first of so many in a row; none: there is no such row. `count` is not 0.
  [[nodiscard]] std::optional<std::uint32_t> allocate(std::uint32_t count) {
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->second < count) continue;
      const auto first = it->first;
      const auto left = it->second - count;
      free_.erase(it);
      if (left > 0) free_.emplace(first + count, left);
      return first;
    }
    return std::nullopt;
  }
  // What was allocated or reserved, once.
  void release(std::uint32_t first, std::uint32_t count) {
    auto next = free_.lower_bound(first);
    if (next != free_.begin()) {
      if (const auto before = std::prev(next); before->first + before->second == first) {
        first = before->first;
        count += before->second;
        free_.erase(before);
      }
    }
    if (next != free_.end() && first + count == next->first) {
      count += next->second;
      free_.erase(next);
    }
    free_.emplace(first, count);
  }
  // Takes one that somebody holds already; false: it is taken.
  bool reserve(std::uint32_t number) {
    auto it = free_.upper_bound(number);
    if (it == free_.begin()) return false;
    --it;
    const auto [first, count] = *it;
    if (number >= first + count) return false;
    free_.erase(it);
    if (number > first) free_.emplace(first, number - first);
    if (number + 1 < first + count) free_.emplace(number + 1, first + count - number - 1);
    return true;
  }

 private:
  std::map<std::uint32_t, std::uint32_t> free_;  // first -> how many; none touches the next
};

}  // namespace sluice::datapath
