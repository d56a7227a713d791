// SPDX-License-Identifier: Apache-2.0
// The table of connections by itself, one step at a time (ct_table.bpf.c).
#pragma once

#include <cstring>
#include <random>
#include <set>
#include <string>

#include "ct_table.skel.h"
#include "sweep.skel.h"
#include "tests/bpf/world.h"

namespace sluice::bpftest {

enum Act : std::uint32_t { kFind, kAdd, kReplace, kRemove, kReclaim };  // as in ct_table.bpf.c

struct Step {
  sluice_ct_key key;
  std::uint64_t mark;
  std::uint32_t act;
  std::uint32_t owner;
};

class Dice {
 public:
  explicit Dice(std::size_t seed) : random_(static_cast<unsigned>(seed)) {}
  std::uint32_t operator()(std::size_t below) { return static_cast<std::uint32_t>(random_() % below); }

 private:
  std::mt19937 random_;
};

class Table : public World {
 protected:
  void SetUp() override {
    World::SetUp();
    load(ct_table_bpf__elf_bytes);
    load(sweep_bpf__elf_bytes);
  }
  static sluice_ct_key key(std::uint32_t number) {
    return key_of({"10.1.0.2", static_cast<std::uint16_t>(number), "10.1.0.3",
                   static_cast<std::uint16_t>(number >> 16)});
  }
  int step(Act act, std::uint32_t number, std::uint32_t mark = 0, std::uint32_t owner = 1) {
    return step_on(act, key(number), mark, owner);
  }
  int step_on(Act act, const sluice_ct_key& key, std::uint32_t mark, std::uint32_t owner) {
    Bytes data(ETH_HLEN + sizeof(Step));
    const Step made{key, mark, act, owner};
    std::memcpy(data.data() + ETH_HLEN, &made, sizeof made);
    return run_program("ct_step", data);
  }
  std::int64_t use(std::uint32_t owner) { return get<std::int64_t>("conntrack_use", owner).value(); }
  // Every way that is taken has a place of its own, every other place is free or was never used, and is in
  // the list of free ones once. Gives the keys of the table.
  std::multiset<std::string> check_groups();
};

inline std::multiset<std::string> Table::check_groups() {
  std::multiset<std::string> keys;
  for (std::uint32_t index = 0; index < kConntrackGroups; ++index) {
    const auto group = get<sluice_ct_group>("conntrack_groups", index).value();
    const auto pool = get<sluice_ct_pool>("conntrack", index).value();
    std::set<std::uint32_t> places;
    for (const auto& tags : group.tags) {
      std::set<std::uint16_t> of_set;
      for (std::uint32_t way = 0; way < SLUICE_CT_WAYS; ++way) {
        const auto tag = static_cast<std::uint16_t>(tags.word[way / 4] >> way % 4 * 16);
        if (!tag) continue;
        EXPECT_TRUE(tag & SLUICE_CT_TAG);
        EXPECT_TRUE(of_set.insert(tag).second) << "a tag twice in a set";
        EXPECT_LT(tags.entry[way], group.fresh);
        EXPECT_TRUE(places.insert(tags.entry[way]).second) << "a place that two have";
        keys.emplace(reinterpret_cast<const char*>(&pool.pair[tags.entry[way]].key), sizeof(sluice_ct_key));
      }
    }
    for (auto next = group.free; next; next = pool.pair[next - 1].entry.owner)
      if (next > group.fresh || !places.insert(next - 1).second) {
        ADD_FAILURE() << "the list of free places leads to one that is taken, or in a circle";
        break;
      }
    EXPECT_EQ(places.size(), group.fresh) << "a place got lost";
    EXPECT_LE(group.fresh, static_cast<std::uint32_t>(SLUICE_CT_POOL));
  }
  return keys;
}

}  // namespace sluice::bpftest
