// SPDX-License-Identifier: Apache-2.0
// Conntrack and firewall of the test world.
#include <arpa/inet.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

constexpr std::uint32_t kZero = 0;

// As the programs find it (bpf/lib/ct_table.h), written on its own.
struct Place {
  explicit Place(const sluice_ct_key& key) {
    const std::uint64_t hash = sluice_ct_hash(&key, kConntrackSecret),
                        mixed = (hash ^ hash >> 32) * SLUICE_HASH_6;
    group = static_cast<std::uint32_t>((mixed >> 32) * kConntrackGroups >> 32);
    sets[0] = (mixed >> 46) & 0xff;
    sets[1] = sets[0] ^ (((mixed >> 38) & 0xff) | 1);
    tag = static_cast<std::uint16_t>(SLUICE_CT_TAG | ((mixed >> 22) & 0x7fff));
  }
  std::uint32_t group;
  std::array<std::uint32_t, 2> sets;
  std::uint16_t tag;
};

std::uint16_t& tag_at(sluice_ct_group& group, std::uint32_t set, std::uint32_t way) {
  return reinterpret_cast<std::uint16_t*>(group.tags[set].word)[way];
}

// A place of the pool that nobody has, and that nobody will be given.
std::uint32_t take_place(sluice_ct_group& group) { return group.fresh++; }

}  // namespace

// Written on its own, not taken from the programs: lower (address, port) first, compared as bytes.
sluice_ct_key World::key_of(const Tuple& tuple) {
  using End = std::pair<std::array<std::uint8_t, 16>, std::array<std::uint8_t, 2>>;
  const auto end = [](const std::string& ipv4, std::uint16_t port) {
    End made_end;
    const sluice_addr addr = address(ipv4);
    std::memcpy(made_end.first.data(), &addr, sizeof addr);
    made_end.second = {static_cast<std::uint8_t>(port >> 8), static_cast<std::uint8_t>(port)};
    return made_end;
  };
  End low = end(tuple.src, tuple.sport);
  End high = end(tuple.dst, tuple.dport);
  if (high < low) std::swap(low, high);
  sluice_ct_key key{};
  std::memcpy(&key.addr[0], low.first.data(), 16);
  std::memcpy(&key.addr[1], high.first.data(), 16);
  std::memcpy(&key.port_be[0], low.second.data(), 2);
  std::memcpy(&key.port_be[1], high.second.data(), 2);
  key.proto = tuple.proto;
  return key;
}

sluice_ct_entry entry_of(const sluice_ct_key& key, const Connection& connection) {
  sluice_ct_entry made{};
  made.last_seen_ns = connection.last_seen_ns;
  made.nat = connection.nat;
  made.seal = sluice_ct_seal(sluice_ct_hash(&key, kConntrackSecret), &made.nat);
  made.stamp = sluice_ct_stamp(made.seal, connection.stamp);
  made.progress = sluice_ct_progress_word(made.seal, connection.progress);
  made.owner = connection.owner;
  return made;
}

std::optional<Connection> World::connection(const Tuple& tuple) {
  const auto found = entry(tuple);
  if (!found) return std::nullopt;
  const Connection made{found->last_seen_ns, found->stamp - found->seal, found->nat,
                        found->progress & SLUICE_CT_PROGRESS_MASK, found->owner};
  const sluice_ct_entry whole = entry_of(key_of(tuple), made);
  EXPECT_EQ(std::memcmp(&whole, &*found, sizeof whole), 0) << "an entry that does not belong together";
  return made;
}

std::uint32_t World::set_of(const sluice_ct_key& key) {
  const Place place(key);
  return place.group * SLUICE_CT_GROUP_SETS + place.sets[0];
}

std::uint16_t World::tag_of(const sluice_ct_key& key) { return Place(key).tag; }

std::optional<World::Way> World::way_of(const sluice_ct_key& key) {
  const Place place(key);
  auto group = get<sluice_ct_group>("conntrack_groups", place.group).value();
  const auto pool = get<sluice_ct_pool>("conntrack", place.group).value();
  for (const auto set : place.sets)
    for (std::uint32_t way = 0; way < SLUICE_CT_WAYS; ++way)
      if (const auto at = group.tags[set].entry[way];
          tag_at(group, set, way) && std::memcmp(&pool.pair[at].key, &key, sizeof key) == 0)
        return Way{set, way, at};
  return std::nullopt;
}

void World::put_entry(const sluice_ct_key& key, const sluice_ct_entry& entry) {
  const Place place(key);
  auto group = get<sluice_ct_group>("conntrack_groups", place.group).value();
  auto at = way_of(key);
  for (std::uint32_t i = 0; i < 2 * SLUICE_CT_WAYS && !at; ++i)
    if (!tag_at(group, place.sets[i % 2], i / 2)) at = Way{place.sets[i % 2], i / 2, take_place(group)};
  ASSERT_TRUE(at) << "both sets are full";
  tag_at(group, at->set, at->way) = place.tag;
  group.tags[at->set].entry[at->way] = static_cast<std::uint16_t>(at->place);
  auto pool = get<sluice_ct_pool>("conntrack", place.group).value();
  pool.pair[at->place] = {key, entry};
  put("conntrack", place.group, pool);
  put("conntrack_groups", place.group, group);
}

void World::fill_sets_of(const sluice_ct_key& key) {
  const Place place(key);
  auto group = get<sluice_ct_group>("conntrack_groups", place.group).value();
  auto pool = get<sluice_ct_pool>("conntrack", place.group).value();
  for (const auto set : place.sets) {
    for (std::uint16_t way = 0; way < SLUICE_CT_WAYS; ++way) {
      if (tag_at(group, set, way)) continue;
      const auto at = take_place(group);
      pool.pair[at] = {key_of({"10.9.0.1", way, "10.9.0.2", 1, IPPROTO_SCTP}), {}};
      tag_at(group, set, way) = static_cast<std::uint16_t>(SLUICE_CT_TAG | ((place.tag + 1U + way) & 0x7fff));
      group.tags[set].entry[way] = static_cast<std::uint16_t>(at);
    }
  }
  put("conntrack", place.group, pool);
  put("conntrack_groups", place.group, group);
}

// Its place of the pool stays unused.
void World::erase_entry(const sluice_ct_key& key) {
  const Place place(key);
  auto group = get<sluice_ct_group>("conntrack_groups", place.group).value();
  const auto at = way_of(key);
  ASSERT_TRUE(at);
  tag_at(group, at->set, at->way) = 0;
  put("conntrack_groups", place.group, group);
}

void World::put_connection(const Tuple& tuple, const Connection& connection) {
  const sluice_ct_key key = key_of(tuple);
  put_entry(key, entry_of(key, connection));
}

void World::change_connection(const Tuple& tuple, const std::function<void(Connection&)>& change) {
  auto found = connection(tuple);
  ASSERT_TRUE(found);
  change(*found);
  put_connection(tuple, *found);
}

std::optional<sluice_ct_entry> World::entry(const Tuple& tuple) {
  const sluice_ct_key key = key_of(tuple);
  const auto at = way_of(key);
  if (!at) return std::nullopt;
  return get<sluice_ct_pool>("conntrack", Place(key).group).value().pair[at->place].entry;
}

void World::change_entry(const Tuple& tuple, const std::function<void(sluice_ct_entry&)>& change) {
  auto found = entry(tuple);
  ASSERT_TRUE(found);
  change(*found);
  put_entry(key_of(tuple), *found);
}

std::uint32_t World::connections() {
  std::uint32_t count = 0;
  for (std::uint32_t index = 0; index < kConntrackGroups; ++index) {
    auto group = get<sluice_ct_group>("conntrack_groups", index).value();
    for (std::uint32_t set = 0; set < SLUICE_CT_GROUP_SETS; ++set)
      for (std::uint32_t way = 0; way < SLUICE_CT_WAYS; ++way) count += tag_at(group, set, way) != 0;
  }
  return count;
}

void World::forget_connections() {
  for (std::uint32_t index = 0; index < kConntrackGroups; ++index)
    put("conntrack_groups", index, sluice_ct_group{});
  for (std::uint32_t owner = 0; owner < SLUICE_CT_USES; ++owner)
    if (get<std::int64_t>("conntrack_use", owner).value()) put("conntrack_use", owner, std::int64_t{0});
}

void World::set_slot(sluice_module slot, int program) {
  put("modules", static_cast<std::uint32_t>(slot), program);
}

void World::clear_slot(sluice_module slot) { erase("modules", static_cast<std::uint32_t>(slot)); }

void World::set_live(std::uint32_t generation, std::uint32_t epoch) {
  put("live", kZero, sluice_live{SLUICE_STAMP(generation, epoch)});
}

void World::go_live(Firewall firewall, const Generation& generation) {
  set_slot(SLUICE_MODULE_FIREWALL, firewall);
  set_live(generation.number, 0);
  firewall_ = std::move(firewall);
}

void World::set_class(const std::string& peer, std::uint32_t number, std::uint32_t slot) {
  const auto key = address(peer);
  sluice_peer none{};
  for (auto& each : none.bound_class) each = sluice_peer_bind(&key, 0);
  sluice_peer value = get<sluice_peer>("peers", key).value_or(none);
  value.bound_class[slot] = sluice_peer_bind(&key, number);
  put("peers", key, value);
}

void World::set_block(const std::string& ipv4, unsigned length, std::uint32_t number) {
  sluice_peer_block value{};
  value.peer_class[0] = number;
  put("peer_blocks", prefix(ipv4, length), value);
}

void World::set_row(std::uint32_t table, std::uint32_t peer_class,
                    const std::vector<unsigned>& port_classes) {
  for (const unsigned port_class : port_classes) {
    const sluice_row_key key{table, peer_class, port_class / SLUICE_ROW_BITS};
    sluice_row row = get<sluice_row>("tables", key).value_or(sluice_row{});
    row.bits[port_class % SLUICE_ROW_BITS / 64] |= 1ULL << port_class % 64;
    put("tables", key, row);
  }
}

void World::set_port(std::uint32_t table, std::uint8_t proto, std::uint16_t port, unsigned bits,
                     std::uint32_t number) {
  sluice_port_key key{};
  key.prefix_len = SLUICE_PORT_KEY_BITS - 16 + bits;
  key.table_be = htonl(table);
  key.proto = proto;
  key.port_be[0] = static_cast<std::uint8_t>(port >> 8);
  key.port_be[1] = static_cast<std::uint8_t>(port);
  put("port_classes", key, number);
}

std::vector<sluice_event> World::events() {
  std::vector<sluice_event> all;
  const auto take = [](void* context, void* data, std::size_t) {
    sluice_event event;
    std::memcpy(&event, data, sizeof event);
    static_cast<std::vector<sluice_event>*>(context)->push_back(event);
    return 0;
  };
  ring_buffer* ring = ring_buffer__new(map("events"), take, &all, nullptr);
  EXPECT_NE(ring, nullptr);
  ring_buffer__consume(ring);
  ring_buffer__free(ring);
  return all;
}

}  // namespace sluice::bpftest
