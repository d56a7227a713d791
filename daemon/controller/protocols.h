// SPDX-License-Identifier: Apache-2.0
// IP protocols as people name them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::controller {

[[nodiscard]] std::string protocol_name(std::uint8_t number);  // "TCP"; one without a name: its number
[[nodiscard]] std::optional<std::uint8_t> protocol_number(
    std::string_view name);  // of either case, or a number

}  // namespace sluice::controller
