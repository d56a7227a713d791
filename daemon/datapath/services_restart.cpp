// SPDX-License-Identifier: Apache-2.0
// Takes over what an earlier daemon left: elements whose backends are the same keep their slots, and no
// packet meets a gap.
#include <algorithm>
#include <utility>

#include "daemon/datapath/services_parts.h"

namespace sluice::datapath {

Result<void> Services::adopt() {
  auto present = maps_.services.entries();
  if (!present) return tl::unexpected(present.error());
  auto found = std::make_unique<Inherited>();
  for (const auto& [key, value] : *present) {
    const service::Frontend frontend{Address::from_abi(key.addr), static_cast<model::Protocol>(key.proto),
                                     ntohs(key.port_be)};
    found->elements[frontend][key.scope] = {value.first, value.count};
    if (value.count > 0) found->regions.insert_or_assign(value.first, value.count);
  }
  if (!found->regions.empty()) {
    found->slots.resize(SLUICE_MAX_SERVICE_SLOTS);
    if (auto done = read_slots(maps_, found->regions, found->slots); !done) return done;
  }
  for (const auto& [first, count] : found->regions) {
    for (auto slot = first; slot < std::min<std::uint32_t>(first + count, SLUICE_MAX_SERVICE_SLOTS); ++slot) {
      slots_.reserve(slot);
      const auto id = found->slots[slot];
      if (id == 0 || !ids_.reserve(id)) continue;
      auto backend = maps_.backends.lookup(id);
      if (!backend) return tl::unexpected(backend.error());
      if (*backend)
        found->backends.emplace(
            id, service::Backend{Address::from_abi((*backend)->addr), ntohs((*backend)->port_be)});
    }
  }
  auto affine = maps_.affine.entries();
  if (!affine) return tl::unexpected(affine.error());
  for (const auto& [key, value] : *affine) found->affine.emplace(key.service, key.backend);
  if (auto done = sources_.adopt(); !done) return done;
  inherited_ = std::move(found);
  adopted_ = true;
  return {};
}

bool Services::claim(const service::Pool& pool, const Region& present) {
  const auto free = inherited_->regions.find(present.first);
  if (free == inherited_->regions.end() || free->second != pool.slots.size()) return false;
  std::map<service::Backend, std::uint32_t> ids;
  for (std::size_t i = 0; i < pool.slots.size(); ++i) {
    const auto id = inherited_->slots[present.first + i];
    const auto backend = inherited_->backends.find(id);
    const auto& wanted = pool.backends[pool.slots[i]];
    if (backend == inherited_->backends.end() || backend->second != wanted) return false;
    const auto [known, is_new] = ids.emplace(wanted, id);
    if (!is_new && known->second != id) return false;
    const auto held = backends_.find(wanted);
    if (held != backends_.end() ? held->second.id != id : inherited_->claimed.contains(id)) return false;
  }
  if (ids.size() != pool.backends.size()) return false;
  for (const auto& [backend, id] : ids) {
    ++backends_.try_emplace(backend, Known{id, 0}).first->second.users;
    inherited_->claimed.insert(id);
  }
  inherited_->regions.erase(free);
  return true;
}

Result<void> Services::drop_inherited() {
  for (const auto& [frontend, scopes] : inherited_->elements) {
    const auto now = elements_.find(frontend);
    for (const auto& [scope, region] : scopes) {
      if (now != elements_.end() && now->second.contains(scope)) continue;
      if (auto done = maps_.services.erase(key_of(frontend, scope)); !done)
        return tl::unexpected(done.error());
    }
  }
  for (const auto& each : inherited_->affine)
    if (!affine_.contains(each))
      if (auto done = maps_.affine.erase(affine_key(each.first, each.second)); !done)
        return tl::unexpected(done.error());
  Released room{grace_.begin(), {}, {}};
  for (const auto& [first, count] : inherited_->regions) room.slots.push_back({first, count});
  for (const auto& [id, backend] : inherited_->backends)
    if (!inherited_->claimed.contains(id)) room.backends.push_back(id);
  released_.push_back(std::move(room));
  inherited_.reset();
  return {};
}

Result<void> Services::erase_unwanted(const service::Table& table) {
  for (auto it = inherited_->elements.begin(); it != inherited_->elements.end();) {
    if (table.contains(it->first) || elements_.contains(it->first)) {
      ++it;
      continue;
    }
    for (const auto& [scope, region] : it->second)
      if (auto done = maps_.services.erase(key_of(it->first, scope)); !done)
        return tl::unexpected(done.error());
    it = inherited_->elements.erase(it);
  }
  return {};
}

}  // namespace sluice::datapath
