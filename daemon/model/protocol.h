// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace sluice::model {

enum class Protocol : std::uint8_t { kTcp = 6, kUdp = 17, kSctp = 132 };  // IANA numbers
[[nodiscard]] const char* to_string(Protocol protocol);                   // "TCP", …

}  // namespace sluice::model
