// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/conntrack_table.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

namespace sluice::datapath {

namespace {

bool is_taken(const sluice_ct_tags& tags, std::uint32_t way) {
  return (tags.word[way / 4] >> (way % 4 * 16) & SLUICE_CT_TAG) != 0;
}

bool is_empty(const sluice_ct_group& group) {
  return std::ranges::all_of(group.tags,
                             [](const sluice_ct_tags& tags) { return !tags.word[0] && !tags.word[1]; });
}

// A group's pool, mapped for as long as it is read: all of them at once would count as the daemon's memory.
class MappedPool {
 public:
  static Result<MappedPool> map(const RawMap& pools, std::uint32_t group) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t from = group * sizeof(sluice_ct_pool), aligned = from / page * page;
    const std::size_t bytes = (from + sizeof(sluice_ct_pool) - aligned + page - 1) / page * page;
    void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, pools.fd(), static_cast<off_t>(aligned));
    if (memory == MAP_FAILED) return failure_errno(errno, "map '" + pools.name() + "' into memory");
    return MappedPool(memory, bytes, from - aligned);
  }
  // Copied, since the programs write while it is read.
  sluice_ct_pair read(std::uint32_t at) const {
    sluice_ct_pair pair;
    std::memcpy(&pair, static_cast<const std::byte*>(memory_.get()) + offset_ + at * sizeof pair,
                sizeof pair);
    return pair;
  }

 private:
  struct Unmap {
    std::size_t bytes = 0;
    void operator()(void* memory) const { munmap(memory, bytes); }
  };
  MappedPool(void* memory, std::size_t bytes, std::size_t offset)
      : memory_(memory, Unmap{bytes}), offset_(offset) {}

  std::unique_ptr<void, Unmap> memory_;
  std::size_t offset_;
};

}  // namespace

Result<void> ConntrackTable::visit(const std::function<Result<void>(const Found&)>& visitor) const {
  const auto groups = conntrack_groups(maps_);
  for (std::uint32_t index = 0; index < groups; ++index) {
    auto group = maps_.conntrack_groups.lookup(index);
    if (!group) return tl::unexpected(group.error());
    if (!*group || is_empty(**group)) continue;
    auto pool = MappedPool::map(maps_.conntrack.raw(), index);
    if (!pool) return tl::unexpected(pool.error());
    for (std::uint32_t set = 0; set < SLUICE_CT_GROUP_SETS; ++set) {
      const auto& tags = (*group)->tags[set];
      for (std::uint16_t way = 0; way < SLUICE_CT_WAYS; ++way) {
        if (!is_taken(tags, way) || tags.entry[way] >= SLUICE_CT_POOL) continue;
        const auto [key, entry] = pool->read(tags.entry[way]);
        if (auto done = visitor({index * SLUICE_CT_GROUP_SETS + set, way, key, entry}); !done) return done;
      }
    }
  }
  return {};
}

Result<void> ConntrackTable::sweep(const std::function<bool(const Found&)>& over, Renewed renewed,
                                   const std::function<void(const Found&, bool)>& told) const {
  std::vector<Found> leaving;
  return visit([&](const Found& found) -> Result<void> {
           if (!over(found)) {
             told(found, false);
             return {};
           }
           leaving.push_back(found);
           if (leaving.size() < SLUICE_SWEEP_MOST) return {};
           return remove(std::exchange(leaving, {}), renewed, told);
         })
      .and_then([&] { return leaving.empty() ? Result<void>{} : remove(leaving, renewed, told); });
}

Result<void> ConntrackTable::remove(const std::vector<Found>& some, Renewed renewed,
                                    const std::function<void(const Found&, bool)>& told) const {
  std::vector<sluice_sweep> asked;
  for (const auto& each : some)
    asked.push_back(
        {each.set, each.way, 0, each.entry.seal, renewed == Renewed::kGo ? 0 : each.entry.last_seen_ns});
  auto run =
      run_program(sweep_, std::as_writable_bytes(std::span(asked)), "remove connections from conntrack");
  if (!run) return tl::unexpected(run.error());
  for (std::size_t i = 0; i < some.size(); ++i) told(some[i], asked[i].removed != 0);
  return {};
}

}  // namespace sluice::datapath
