// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/uplinks.h"

#include <algorithm>
#include <cstring>

namespace sluice::datapath {

namespace {

bool equal(const sluice_uplink& a, const sluice_uplink& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

// An address keeps the number that it once had: connections of before may refer to it.
Result<std::vector<std::uint8_t>> Uplinks::numbers_of(const std::vector<Address>& addresses) const {
  Addresses known;
  auto done =
      maps_.masquerade_addresses.visit([&](std::uint32_t number, const sluice_addr& addr) -> Result<void> {
        known.at(number) = Address::from_abi(addr);
        return {};
      });
  if (!done) return tl::unexpected(done.error());
  const auto first = known.begin() + 1;  // 0 is no number
  std::vector<std::uint8_t> numbers;
  for (const auto& address : addresses) {
    auto found = std::find(first, known.end(), address);
    if (found == known.end()) {
      found = std::find(first, known.end(), Address());
      if (found == known.end()) {
        const auto taken = number_taken_from(known, addresses);
        if (!taken) return tl::unexpected(taken.error());
        found = known.begin() + *taken;
      }
      const auto number = static_cast<std::uint32_t>(found - known.begin());
      if (auto written = maps_.masquerade_addresses.update(number, address.abi()); !written)
        return tl::unexpected(written.error());
      *found = address;
    }
    numbers.push_back(static_cast<std::uint8_t>(found - known.begin()));
  }
  return numbers;
}

// From an address that is not wanted any more, and that no connection has.
Result<std::uint8_t> Uplinks::number_taken_from(const Addresses& known,
                                                const std::vector<Address>& wanted) const {
  const auto in_use = connections_.numbers();
  if (!in_use) return tl::unexpected(in_use.error());
  for (std::size_t i = 1; i < known.size(); ++i) {
    const auto number = static_cast<std::uint8_t>(i);
    if (in_use->contains(number) || std::ranges::find(wanted, known.at(i)) != wanted.end()) continue;
    // Until just now its address may have been an uplink's: what began meanwhile must not change to another
    // one.
    if (auto ended = connections_.end(number); !ended) return tl::unexpected(ended.error());
    return number;
  }
  return failure(
      "each of {} addresses that the node had since it booted has uplinks or connections of pods, and one "
      "more "
      "has no room: take addresses from interfaces, or wait until connections have ended",
      known.size() - 1);
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
