// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/maglev.h"

#include <array>

namespace sluice::service {

namespace {

constexpr std::size_t kSlotsPerBackend = 16;

// Each is about twice the one before, since another size moves nearly every slot. 163 is for ten backends.
constexpr std::array<std::size_t, 9> kSizes{41, 83, 163, 331, 653, 1307, 2617, 5237, 16411};
constexpr std::size_t kHugeSize = 65537;
constexpr std::size_t kMostOfLargestSize = 4096;  // backends

constexpr std::uint64_t kOffsetSeed = 1;
constexpr std::uint64_t kSkipSeed = 2;

constexpr std::uint16_t kFree = 0xffff;  // no backend's index: kMaxBackends

// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the tables of all nodes depend on it, so it is not
// std::hash.
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

std::uint64_t name_hash(const Backend& backend, std::uint64_t seed) {
  std::uint64_t hash = mixed(seed);
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    word = word << 8 | backend.address.bytes()[i];
    if (i % 8 == 7) hash = mixed(hash ^ word);
  }
  return mixed(hash ^ backend.port);
}

// A backend's order of preference: next, next + skip, … modulo the size.
struct Preference {
  std::size_t next = 0;
  std::size_t skip = 0;
};

}  // namespace

std::size_t maglev_size(std::size_t backends) {
  if (backends < 2) return backends;
  for (const std::size_t size : kSizes) {
    if (size >= kSlotsPerBackend * backends) return size;
  }
  return backends <= kMostOfLargestSize ? kSizes.back() : kHugeSize;
}

std::vector<std::uint16_t> maglev_table(std::span<const Backend> backends) {
  const std::size_t size = maglev_size(backends.size());
  if (size < 2) return std::vector<std::uint16_t>(size, 0);
  std::vector<Preference> preferences;
  preferences.reserve(backends.size());
  for (const auto& backend : backends)
    preferences.push_back(
        {name_hash(backend, kOffsetSeed) % size, name_hash(backend, kSkipSeed) % (size - 1) + 1});

  std::vector<std::uint16_t> slots(size, kFree);
  const auto take = [&](Preference& preference) {
    std::size_t slot = 0;
    do {
      slot = preference.next;
      preference.next += preference.skip;
      if (preference.next >= size) preference.next -= size;
    } while (slots[slot] != kFree);
    return slot;
  };
  // By turns, so that no backend is ahead of another by more than one slot.
  for (std::size_t taken = 0; taken < size; ++taken) {
    const std::size_t turn = taken % backends.size();
    slots[take(preferences[turn])] = static_cast<std::uint16_t>(turn);
  }
  return slots;
}

}  // namespace sluice::service
