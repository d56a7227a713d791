// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <unordered_set>

namespace sluice::policy {

// Gives each content a number, counting up: the same content keeps its number, no number is given twice. What
// was in use at none of the last sweeps is forgotten, so that years of changes do not fill the
// memory; should it come back, it gets a new number.
template <typename Content>
class Interner {
 public:
  static constexpr unsigned kSweeps = 4;

  explicit Interner(std::uint32_t first) : next_(first) {}

  [[nodiscard]] std::uint32_t number(const Content& content) {
    const auto [it, added] = numbers_.try_emplace(content, Entry{next_, 0});
    if (added) contents_.emplace(next_++, &it->first);
    it->second.unused_sweeps = 0;
    return it->second.number;
  }

  [[nodiscard]] const Content& content(std::uint32_t number) const { return *contents_.at(number); }

  // `kept`: for how many sweeps what is not in use is kept.
  void sweep(const std::unordered_set<std::uint32_t>& in_use, unsigned kept = kSweeps) {
    for (auto it = numbers_.begin(); it != numbers_.end();) {
      Entry& entry = it->second;
      if (in_use.contains(entry.number)) {
        entry.unused_sweeps = 0;
      } else if (++entry.unused_sweeps > kept) {
        contents_.erase(entry.number);
        it = numbers_.erase(it);
        continue;
      }
      ++it;
    }
  }

 private:
  struct Entry {
    std::uint32_t number = 0;
    unsigned unused_sweeps = 0;
  };
  std::uint32_t next_;
  std::map<Content, Entry> numbers_;
  std::unordered_map<std::uint32_t, const Content*>
      contents_;  // points into numbers_, whose nodes do not move
};

}  // namespace sluice::policy
