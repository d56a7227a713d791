// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/uplinks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

namespace sluice::datapath {

namespace {

constexpr std::size_t kNumbers = SLUICE_MAX_MASQUERADE_ADDRESSES;

bool equal(const sluice_uplink& a, const sluice_uplink& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

// An address keeps the number that it once had: connections of before may refer to it. If none is free, one
// is taken from an address that is not among these, and its connections end.
Result<std::vector<std::uint8_t>> Uplinks::numbers_of(const std::vector<Address>& addresses) const {
  std::array<Address, kNumbers> known;
  auto done =
      maps_.masquerade_addresses.visit([&](std::uint32_t number, const sluice_addr& addr) -> Result<void> {
        known.at(number) = Address::from_abi(addr);
        return {};
      });
  if (!done) return tl::unexpected(done.error());
  const std::set<Address> wanted(addresses.begin(), addresses.end());
  const auto first = known.begin() + 1;  // 0 is no number
  std::vector<std::uint8_t> numbers;
  for (const auto& address : addresses) {
    auto found = std::find(first, known.end(), address);
    if (found == known.end()) {
      found = std::find(first, known.end(), Address());
      const bool taken = found == known.end();
      if (taken)
        found = std::find_if(first, known.end(), [&](const Address& each) { return !wanted.contains(each); });
      if (found == known.end())
        return failure("the node masquerades under more than {} addresses", kNumbers - 1);
      const auto number = static_cast<std::uint8_t>(found - known.begin());
      if (taken)
        if (auto ended = end_connections_(number); !ended) return tl::unexpected(ended.error());
      if (auto written = maps_.masquerade_addresses.update(number, address.abi()); !written)
        return tl::unexpected(written.error());
      *found = address;
    }
    numbers.push_back(static_cast<std::uint8_t>(found - known.begin()));
  }
  return numbers;
}

Result<Uplinks::Numbers> Uplinks::write(const NodeConfig& config, const Address& local) {
  std::vector<Address> addresses{config.node_ipv4.value_or(local), local};
  for (const auto& uplink : config.uplinks) addresses.push_back(uplink.source);
  const auto numbers = numbers_of(addresses);
  if (!numbers) return tl::unexpected(numbers.error());
  Numbers result{(*numbers)[0], (*numbers)[1], false};
  written_.clear();
  for (std::size_t i = 0; i < config.uplinks.size(); ++i) {
    const auto& uplink = config.uplinks[i];
    const auto number = (*numbers)[i + 2];
    const auto flags = static_cast<std::uint8_t>((uplink.ethernet ? SLUICE_UPLINK_ETHERNET : 0) |
                                                 (uplink.underlay ? SLUICE_UPLINK_UNDERLAY : 0));
    const sluice_uplink value{uplink.ifindex, number, flags, {}};
    const auto before = maps_.uplinks.lookup(uplink.ifindex);
    if (!before) return tl::unexpected(before.error());
    if (!*before || !equal(**before, value))
      if (auto done = maps_.uplinks.update(uplink.ifindex, value); !done) return tl::unexpected(done.error());
    written_.push_back(value);
    result.ways_differ |= number != result.node;
  }
  return result;
}

Result<std::vector<sluice_uplink>> Uplinks::present() const {
  std::vector<sluice_uplink> found;
  auto done = maps_.uplinks.visit([&](std::uint32_t, const sluice_uplink& uplink) -> Result<void> {
    found.push_back(uplink);
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  std::ranges::sort(found, {}, &sluice_uplink::ifindex);
  return found;
}

Result<void> Uplinks::forget(std::uint32_t ifindex) const {
  if (auto done = maps_.uplinks.erase(ifindex); !done) return tl::unexpected(done.error());
  return {};
}

Result<void> Uplinks::audit(std::vector<std::string>& differences) const {
  auto found = maps_.uplinks.entries();
  if (!found) return tl::unexpected(found.error());
  for (const auto& wanted : written_) {
    const auto same = [&](const auto& entry) {
      return entry.first == wanted.ifindex && equal(entry.second, wanted);
    };
    if (std::erase_if(*found, same) == 0)
      differences.push_back(
          fmt::format("uplinks: interface number {} is missing or differs", wanted.ifindex));
  }
  for (const auto& [ifindex, uplink] : *found)
    if (std::ranges::find(written_, ifindex, &sluice_uplink::ifindex) == written_.end())
      differences.push_back(fmt::format("uplinks: interface number {} should not be there", ifindex));
  return {};
}

}  // namespace sluice::datapath
