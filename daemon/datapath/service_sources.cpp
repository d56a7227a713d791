// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/service_sources.h"

#include <algorithm>
#include <set>

#include "common/fnv.h"

namespace sluice::datapath {

namespace {

sluice_source_key source_key(std::uint64_t number, const Prefix& range) {
  sluice_source_key key{};
  key.prefix_len = SLUICE_SOURCE_SET_BITS + range.bits();
  key.sources[0] = static_cast<std::uint32_t>(number);
  key.sources[1] = static_cast<std::uint32_t>(number >> 32);
  key.addr = range.address().abi();
  return key;
}

std::uint64_t set_of(const sluice_source_key& key) {
  return key.sources[0] | static_cast<std::uint64_t>(key.sources[1]) << 32;
}

using Keys = std::set<sluice_source_key, KeyLess>;

}  // namespace

std::uint64_t ServiceSources::number_of(const std::vector<Prefix>& ranges) {
  if (ranges.empty()) return 0;
  auto sorted = ranges;
  std::ranges::sort(sorted);
  std::string text;
  for (const auto& range : sorted) text += range.to_string() + ",";
  return std::max<std::uint64_t>(fnv1a(text), 1);
}

Result<void> ServiceSources::adopt() {
  const auto ticket = grace_.begin();
  return maps_.service_sources.visit([&](const sluice_source_key& key, const std::uint32_t&) -> Result<void> {
    auto& set = sets_[set_of(key)];
    set.keys.push_back(key);
    set.ticket = ticket;
    return {};
  });
}

Result<void> ServiceSources::hold(const std::vector<Prefix>& ranges) {
  const auto number = number_of(ranges);
  if (number == 0) return {};
  auto& set = sets_[number];
  if (++set.users > 1) return {};
  Keys missing;
  for (const auto& range : ranges) missing.insert(source_key(number, range));
  for (const auto& key : set.keys) missing.erase(key);
  for (const auto& key : missing) {
    if (auto done = maps_.service_sources.update(key, 0); !done) {
      let_go(number);
      return done;
    }
    set.keys.push_back(key);
  }
  return {};
}

void ServiceSources::let_go(std::uint64_t number) {
  const auto set = sets_.find(number);
  if (set == sets_.end() || --set->second.users > 0) return;
  set->second.ticket = grace_.begin();
}

Result<void> ServiceSources::collect() {
  for (auto it = sets_.begin(); it != sets_.end();) {
    auto& [number, set] = *it;
    if (set.users > 0) {
      ++it;
      continue;
    }
    if (auto done = grace_.wait(set.ticket); !done) return done;
    while (!set.keys.empty()) {
      if (auto done = maps_.service_sources.erase(set.keys.back()); !done)
        return tl::unexpected(done.error());
      set.keys.pop_back();
    }
    it = sets_.erase(it);
  }
  return {};
}

Result<void> ServiceSources::audit(std::vector<std::string>& differences) const {
  auto present = maps_.service_sources.entries();
  if (!present) return tl::unexpected(present.error());
  Keys found;
  for (const auto& [key, value] : *present) found.insert(key);
  const auto name = [](const sluice_source_key& key) {
    return fmt::format(
        "service_sources: {} of {:016x}",
        Prefix(Address::from_abi(key.addr), key.prefix_len - SLUICE_SOURCE_SET_BITS).to_string(),
        set_of(key));
  };
  for (const auto& [number, set] : sets_)
    for (const auto& key : set.keys)
      if (found.erase(key) == 0) differences.push_back(name(key) + " is missing");
  for (const auto& key : found) differences.push_back(name(key) + " should not be there");
  return {};
}

}  // namespace sluice::datapath
