// SPDX-License-Identifier: Apache-2.0
// The lookup table by which a packet's hash chooses a backend. Source: Eisenbud et al., "Maglev: A Fast and
// Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
//
// The same backends give the same table on every node. No backend has two slots more than another: with up to
// 1025 backends none has more than 1/16 over its share, with up to 4096 none more than 1/4. When one goes and
// the size stays, 6 to 7 % of the others' slots change hands with up to 40 backends, 3 % with 100, 0.6 % with
// 1000 (measured). Where the size changes (see maglev.cpp) nearly all do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "daemon/service/table.h"

namespace sluice::service {

inline constexpr std::size_t kMaxBackends = 65535;  // slots are 16 bits wide

// Slots for that many backends, of which there are at most kMaxBackends: a prime, but 0 for 0 and 1 for 1.
[[nodiscard]] std::size_t maglev_size(std::size_t backends);

// Backends are sorted and distinct.
[[nodiscard]] std::vector<std::uint16_t> maglev_table(std::span<const Backend> backends);

}  // namespace sluice::service
