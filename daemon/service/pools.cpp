// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/pools.h"

#include <algorithm>
#include <utility>

#include "daemon/service/maglev.h"

namespace sluice::service {

namespace {

std::size_t hash_of(const std::vector<Backend>& backends) {
  std::size_t hash = backends.size();
  for (const auto& backend : backends)
    hash = (hash ^ std::hash<Address>()(backend.address) ^ backend.port) * 0x9e3779b97f4a7c15;
  return hash;
}

}  // namespace

std::shared_ptr<const Pool> Pools::of(std::vector<Backend> backends) {
  std::ranges::sort(backends);
  backends.erase(std::unique(backends.begin(), backends.end()), backends.end());
  if (backends.size() > kMaxBackends) backends.resize(kMaxBackends);

  const std::size_t hash = hash_of(backends);
  for (auto [it, end] = known_.equal_range(hash); it != end; ++it) {
    auto pool = it->second.lock();
    if (pool && pool->backends == backends) return pool;
  }
  auto pool = std::make_shared<Pool>();
  pool->backends = std::move(backends);
  pool->slots = maglev_table(pool->backends);
  if (known_.size() >= sweep_at_) {
    std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<std::size_t>(64, 2 * known_.size());
  }
  known_.emplace(hash, pool);
  return pool;
}

}  // namespace sluice::service
