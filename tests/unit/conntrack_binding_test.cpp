// SPDX-License-Identifier: Apache-2.0
// What binds the fields of a conntrack entry to its connection (bpf/abi.h).
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "bpf/abi.h"

namespace sluice {
namespace {

constexpr __u64 kSecret[] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xd6e8feb86659fd93,
                             0xa0761d6478bd642f};

struct Fields {
  sluice_ct_key key{};
  sluice_ct_nat nat{};

  [[nodiscard]] std::uint64_t seal() const { return sluice_ct_seal(sluice_ct_hash(&key, kSecret), &nat); }
};

sluice_addr v4(std::uint32_t host_order) {
  sluice_addr addr{};
  addr.bytes[10] = addr.bytes[11] = 0xff;
  addr.word_be[3] = htonl(host_order);
  return addr;
}

// As a cluster has them: few networks, neighbouring addresses and ports.
Fields random_connection(std::mt19937_64& random) {
  Fields made;
  const auto pod = [&] {
    return v4(0x0a010000 + static_cast<std::uint32_t>(random() % 4 << 8 | random() % 8));
  };
  made.key.addr[0] = pod();
  made.key.addr[1] = pod();
  made.key.port_be[0] = htons(static_cast<std::uint16_t>(32768 + random() % 64));
  made.key.port_be[1] = htons(static_cast<std::uint16_t>(80 + random() % 4));
  made.key.proto = random() % 2 ? IPPROTO_TCP : IPPROTO_UDP;
  made.nat.flags = random() % 2 ? SLUICE_CT_ORIGIN_HIGH : 0;
  return made;
}

template <typename Change>
void each_bit(void* data, std::size_t size, const Change& check) {
  auto* bytes = static_cast<std::uint8_t*>(data);
  for (std::size_t bit = 0; bit < 8 * size; ++bit) {
    bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] ^ 1U << bit % 8);
    check(bit);
    bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] ^ 1U << bit % 8);
  }
}

TEST(ConntrackBinding, EveryBitOfKeyAndTranslationIsInTheSeal) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 1000; ++round) {
    Fields fields = random_connection(random);
    const std::uint64_t seal = fields.seal();
    const auto differs = [&](std::size_t bit) { ASSERT_NE(fields.seal(), seal) << "bit " << bit; };
    each_bit(&fields.key, sizeof fields.key, differs);
    each_bit(&fields.nat, sizeof fields.nat, differs);
  }
}

TEST(ConntrackBinding, AMixOfTwoEntriesIsNotWhole) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 20'000; ++round) {
    const Fields one = random_connection(random);
    Fields other = random_connection(random);
    other.key.port_be[1] = htons(8080);
    other.nat.addr = v4(0xc0000201);
    other.nat.port_be = htons(static_cast<std::uint16_t>(61000 + random() % 4));
    other.nat.flags |= SLUICE_CT_MASQUERADE;
    // Read under the key of `one`, any of the words already or still of `other`.
    for (unsigned mix = 0; mix < 16; ++mix) {
      Fields read = one;
      if (mix & 1) std::memcpy(&read.nat.addr.bytes[0], &other.nat.addr.bytes[0], 8);
      if (mix & 2) std::memcpy(&read.nat.addr.bytes[8], &other.nat.addr.bytes[8], 8);
      if (mix & 4) std::memcpy(&read.nat.port_be, &other.nat.port_be, 8);
      const std::uint64_t seal = mix & 8 ? other.seal() : one.seal();
      // Both have a mapped address, or none: the first half may be the same.
      const bool whole = !(mix & 14) && !std::memcmp(&read.nat.addr, &one.nat.addr, 16);
      ASSERT_EQ(read.seal() == seal, whole) << mix;
    }
  }
}

TEST(ConntrackBinding, NeighboursHaveSealsOfTheirOwn) {
  // Every connection of 32 pods with one another, 64 ports to 4, two protocols, both directions.
  std::vector<std::uint64_t> seals;
  for (std::uint32_t a = 0; a < 32; ++a) {
    for (std::uint32_t b = a + 1; b < 32; ++b) {
      for (std::uint16_t port = 0; port < 256; ++port) {
        for (const std::uint16_t flags : std::initializer_list<std::uint16_t>{0, SLUICE_CT_ORIGIN_HIGH}) {
          Fields fields;
          fields.key.addr[0] = v4(0x0a010000 + (a / 8 << 8) + a % 8);
          fields.key.addr[1] = v4(0x0a010000 + (b / 8 << 8) + b % 8);
          fields.key.port_be[0] = htons(static_cast<std::uint16_t>(32768 + port / 4));
          fields.key.port_be[1] = htons(static_cast<std::uint16_t>(80 + port % 4));
          fields.nat.flags = flags;
          for (const std::uint8_t proto : std::initializer_list<std::uint8_t>{IPPROTO_TCP, IPPROTO_UDP}) {
            fields.key.proto = proto;
            seals.push_back(fields.seal());
          }
        }
      }
    }
  }
  std::ranges::sort(seals);
  EXPECT_EQ(std::ranges::adjacent_find(seals), seals.end());
  // Nor are two a plausible difference of stamps apart: a few generations, an epoch.
  for (std::size_t i = 1; i < seals.size(); ++i)
    for (std::uint64_t generations = 0; generations < 4; ++generations)
      ASSERT_GT(seals[i] - seals[i - 1] - (generations << 32), std::uint64_t{1000});
}

TEST(ConntrackBinding, ProgressIsKnownByItsOwnConnectionOnly) {
  std::mt19937_64 random(3);
  constexpr std::uint32_t kEnded = SLUICE_CT_CLOSED | SLUICE_CT_FIN_ORIGIN;
  int believed = 0;
  constexpr int kRounds = 1'000'000;
  for (int round = 0; round < kRounds; ++round) {
    const Fields one = random_connection(random);
    const Fields other = random_connection(random);
    const std::uint32_t word = sluice_ct_progress_word(one.seal(), kEnded);
    ASSERT_EQ(sluice_ct_progress(one.seal(), word), kEnded);
    if (one.seal() == other.seal()) continue;
    const std::uint32_t read = sluice_ct_progress(other.seal(), word);
    if (read == kEnded)
      ++believed;
    else
      ASSERT_EQ(read, std::uint32_t{SLUICE_CT_REPLIED | SLUICE_CT_ASSURED});
  }
  EXPECT_LE(believed, 2) << "of " << kRounds << ", with 24 bits of the seal: 0.06 expected";
}

TEST(ConntrackBinding, UnknownProgressLivesLongest) {
  for (int proto = 0; proto < 256; ++proto)
    for (std::uint32_t progress = 0; progress <= SLUICE_CT_PROGRESS_MASK; ++progress)
      EXPECT_LE(
          sluice_ct_lifetime_ns(static_cast<std::uint8_t>(proto), progress),
          sluice_ct_lifetime_ns(static_cast<std::uint8_t>(proto), SLUICE_CT_REPLIED | SLUICE_CT_ASSURED));
}

}  // namespace
}  // namespace sluice
