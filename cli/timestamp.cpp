// SPDX-License-Identifier: Apache-2.0
#include "cli/timestamp.h"

#include <ctime>

namespace sluice::cli {

std::optional<Time> parse_time(const std::string& text) {
  std::tm fields{};
  const char* rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &fields);
  if (rest == nullptr || text.back() != 'Z') return std::nullopt;
  return std::chrono::system_clock::from_time_t(::timegm(&fields));
}

std::string duration_text(std::chrono::seconds duration) {
  const auto seconds = duration.count();
  const auto two = [](auto major, const char* major_unit, auto minor, const char* minor_unit) {
    return std::to_string(major) + major_unit + (minor > 0 ? std::to_string(minor) + minor_unit : "");
  };
  if (seconds < 60) return std::to_string(seconds) + "s";
  if (seconds < 3600) return two(seconds / 60, "m", seconds % 60, "s");
  if (seconds < 86400) return two(seconds / 3600, "h", seconds % 3600 / 60, "m");
  return two(seconds / 86400, "d", seconds % 86400 / 3600, "h");
}

std::string time_with_age(const std::string& text, Time now) {
  if (text.empty()) return "never";
  const auto time = parse_time(text);
  if (!time) return text;
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(now - *time);
  // The clocks of one machine differ by no more than the fraction that parse_time() leaves out.
  return text + " (" + duration_text(std::max(age, std::chrono::seconds(0))) + " ago)";
}

}  // namespace sluice::cli
