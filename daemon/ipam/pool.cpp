// SPDX-License-Identifier: Apache-2.0
#include "daemon/ipam/pool.h"

#include <algorithm>

namespace sluice::ipam {

namespace {

struct Range {  // of addresses for pods, both inclusive, host order
  std::uint32_t first = 0, last = 0;
};

// Without the network address, the gateway (the first host address) and the broadcast address.
Range pods_of(const Prefix& cidr) {
  const std::uint32_t base = cidr.address().v4();
  const std::uint32_t broadcast = base | (cidr.length() == 0 ? ~0u : (1u << (32 - cidr.length())) - 1);
  return {base + 2, broadcast - 1};
}

}  // namespace

void Pool::set_cidrs(std::vector<Prefix> cidrs) {
  cidrs_.clear();
  for (const auto& cidr : cidrs) {
    if (!cidr.is_v4() || cidr.length() > 30) continue;
    const bool inside = std::any_of(cidrs.begin(), cidrs.end(), [&](const Prefix& other) {
      return other != cidr && other.is_v4() && other.contains(cidr);
    });
    if (!inside && std::find(cidrs_.begin(), cidrs_.end(), cidr) == cidrs_.end()) cidrs_.push_back(cidr);
  }
}

std::size_t Pool::capacity() const {
  std::size_t sum = 0;
  for (const auto& cidr : cidrs_) {
    const auto range = pods_of(cidr);
    sum += range.last - range.first + 1;
  }
  return sum;
}

std::size_t Pool::held_in_cidrs() const {
  return static_cast<std::size_t>(
      std::count_if(addresses_.begin(), addresses_.end(), [this](const Address& address) {
        return std::any_of(cidrs_.begin(), cidrs_.end(),
                           [&](const Prefix& cidr) { return cidr.contains(address); });
      }));
}

std::optional<Address> Pool::next_address(Clock::time_point now) const {
  if (cidrs_.empty()) return std::nullopt;
  std::optional<Address> longest;
  Clock::time_point longest_since;
  // True: `address` is the one to give.
  const auto rested = [&](const Address& address) {
    const auto found = resting_.find(address);
    if (found == resting_.end() || now - found->second >= kRest) return true;
    if (!longest || found->second < longest_since) {
      longest = address;
      longest_since = found->second;
    }
    return false;
  };
  const auto of_cursor = std::find_if(cidrs_.begin(), cidrs_.end(),
                                      [this](const Prefix& cidr) { return cidr.contains(cursor_.ipv4); });
  const std::size_t start =
      of_cursor == cidrs_.end() ? 0 : static_cast<std::size_t>(of_cursor - cidrs_.begin());
  // The prefix of the cursor comes twice: first what is behind the cursor, at last what is before it. A
  // search ends after as many steps as addresses are held or rest, whatever the size of the prefixes.
  for (std::size_t step = 0; step <= cidrs_.size(); ++step) {
    auto [first, last] = pods_of(cidrs_[(start + step) % cidrs_.size()]);
    if (step == 0 && of_cursor != cidrs_.end()) first = std::max(first, cursor_.ipv4.v4() + 1);
    for (std::uint64_t candidate = first; candidate <= last; ++candidate) {
      const auto address = Address::from_v4(static_cast<std::uint32_t>(candidate));
      if (!addresses_.contains(address) && rested(address)) return address;
    }
  }
  return longest;
}

std::optional<std::uint32_t> Pool::next_endpoint() const {
  constexpr std::uint32_t kIds = SLUICE_MAX_ENDPOINTS - 1;
  for (std::uint32_t step = 0; step < kIds; ++step) {
    const std::uint32_t candidate = (cursor_.endpoint + step) % kIds + 1;
    if (!endpoints_.contains(candidate)) return candidate;
  }
  return std::nullopt;
}

void Pool::take(std::uint32_t endpoint, const Address& ipv4) {
  if (endpoint != 0) endpoints_.insert(endpoint);
  if (ipv4.is_none()) return;
  addresses_.insert(ipv4);
  resting_.erase(ipv4);
}

void Pool::keep(const std::set<std::uint32_t>& endpoints, const std::set<Address>& addresses,
                Clock::time_point now) {
  std::erase_if(resting_, [&](const auto& entry) { return now - entry.second >= kRest; });
  for (const auto& address : addresses_)
    if (!addresses.contains(address)) resting_.insert_or_assign(address, now);
  endpoints_ = endpoints;
  addresses_ = addresses;
}

}  // namespace sluice::ipam
