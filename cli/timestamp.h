// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace sluice::cli {

using Time = std::chrono::system_clock::time_point;

// RFC 3339 in UTC, as sluiced writes it: "2026-01-31T12:00:00.123Z".
[[nodiscard]] std::optional<Time> parse_time(const std::string& text);
// "45s", "12m5s", "3h20m", "9d4h"
[[nodiscard]] std::string duration_text(std::chrono::seconds duration);
// "2026-01-31T12:00:00.123Z (12m5s ago)"; text that is no time as it is, none as "never".
[[nodiscard]] std::string time_with_age(const std::string& text, Time now);

}  // namespace sluice::cli
