// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <map>

#include "common/address.h"

namespace sluice::policy {

[[nodiscard]] inline Address last_of(const Prefix& prefix) {
  Address address = prefix.address();
  for (unsigned bit = prefix.bits(); bit < 128; ++bit)
    address.bytes()[bit / 8] = static_cast<std::uint8_t>(address.bytes()[bit / 8] | (0x80U >> (bit % 8)));
  return address;
}

[[nodiscard]] inline unsigned common_bits(const Address& left, const Address& right) {
  for (unsigned i = 0; i < 16; ++i) {
    const auto difference = static_cast<std::uint8_t>(left.bytes()[i] ^ right.bytes()[i]);
    if (difference != 0) return i * 8 + static_cast<unsigned>(std::countl_zero(difference));
  }
  return 128;
}

// The longest prefix of `map` that contains `inner`; end() if none does.
// Prefixes are in order of (address, bits). A prefix before `inner` in that order which does not contain it
// shares its first n bits only; every prefix that does contain it and stands before that one has at most n
// bits.
template <typename Value>
[[nodiscard]] typename std::map<Prefix, Value>::const_iterator longest_match(
    const std::map<Prefix, Value>& map, const Prefix& inner) {
  unsigned bits = inner.bits();
  for (;;) {
    auto it = map.upper_bound(Prefix(inner.address(), bits));
    if (it == map.begin()) return map.end();
    --it;
    if (it->first.contains(inner)) return it;
    bits = common_bits(it->first.address(), inner.address());
  }
}

template <typename Value>
[[nodiscard]] typename std::map<Prefix, Value>::const_iterator longest_match(
    const std::map<Prefix, Value>& map, const Address& address) {
  return longest_match(map, Prefix::host(address));
}

}  // namespace sluice::policy
