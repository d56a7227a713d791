// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace sluice::source {

// Cuts a stream into lines, each handed on as soon as it is complete. A line is bounded, or an endless one
// would take all memory.
class Lines {
 public:
  enum class End { kNone, kTooLong, kRefused };
  explicit Lines(std::size_t most) : most_(most) {}

  // `line(std::string_view)` is called for each line that is not empty; false stops.
  template <typename Line>
  End feed(std::string_view data, Line&& line) {
    for (;;) {
      const auto newline = data.find('\n');
      if (newline == std::string_view::npos) break;
      if (rest_.size() + newline > most_) return End::kTooLong;
      // A line that came in one piece is not copied.
      std::string_view whole = data.substr(0, newline);
      if (!rest_.empty()) whole = rest_.append(whole);
      if (!whole.empty() && whole != "\r" && !line(whole)) return End::kRefused;
      rest_.clear();
      data.remove_prefix(newline + 1);
    }
    if (rest_.size() + data.size() > most_) return End::kTooLong;
    rest_.append(data);
    return End::kNone;
  }

 private:
  std::size_t most_;
  std::string rest_;
};

}  // namespace sluice::source
