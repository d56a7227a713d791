// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/services.h"

#include <arpa/inet.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <numeric>
#include <utility>

#include "common/fault_point.h"
#include "common/fnv.h"

namespace sluice::datapath {

namespace {

sluice_service_key key_of(const service::Frontend& frontend, std::uint8_t scope) {
  sluice_service_key key{};
  key.addr = frontend.address.abi();
  key.port_be = htons(frontend.port);
  key.proto = static_cast<std::uint8_t>(frontend.protocol);
  key.scope = scope;
  return key;
}

std::uint64_t id_of(const std::string& service) { return std::max<std::uint64_t>(fnv1a(service), 1); }

sluice_affine_key affine_key(std::uint64_t service, std::uint32_t backend) { return {service, backend, 0}; }

// Beyond that, reading all of the array is quicker.
constexpr std::uint32_t kReadSingly = 1 << 16;

Result<void> read_slots(const Maps& maps, const std::map<std::uint32_t, std::uint32_t>& regions,
                        std::vector<std::uint32_t>& into) {
  std::uint32_t total = 0;
  for (const auto& [first, count] : regions) total += count;
  if (total > kReadSingly)
    return maps.service_slots.visit([&](std::uint32_t slot, std::uint32_t id) -> Result<void> {
      into.at(slot) = id;
      return {};
    });
  for (const auto& [first, count] : regions) {
    for (auto slot = first; slot < std::min<std::uint32_t>(first + count, SLUICE_MAX_SERVICE_SLOTS); ++slot) {
      auto id = maps.service_slots.lookup(slot);
      if (!id) return tl::unexpected(id.error());
      into[slot] = id->value_or(0);
    }
  }
  return {};
}

}  // namespace

struct Services::Wanted {
  std::shared_ptr<const service::Pool> pool;
  std::uint32_t flags = 0;
  std::uint32_t affinity_s = 0;
  std::uint64_t id = 0;
  const std::vector<Prefix>& source_ranges;  // the target's
};

// By scope; none: the frontend is not served there.
std::map<std::uint8_t, Services::Wanted> Services::elements_of(const service::Frontend& frontend,
                                                               const service::Target& target) const {
  std::map<std::uint8_t, Wanted> elements;
  if (!frontend.address.is_v4()) return elements;  // the modules know IPv4 only
  const auto affinity = target.affinity_seconds.value_or(0);
  const auto id = affinity != 0 ? id_of(target.service) : 0;
  const std::uint32_t both = random_ ? SLUICE_SERVICE_RANDOM : 0;
  const std::uint32_t inside = both | (target.internal_elsewhere ? SLUICE_SERVICE_SILENT : 0) |
                               (target.on_loopback ? SLUICE_SERVICE_LOOPBACK : 0);
  elements.emplace(SLUICE_SCOPE_INSIDE, Wanted{target.internal, inside, affinity, id, target.source_ranges});
  if (!target.from_outside) return elements;
  std::uint32_t outside = both | (target.external_elsewhere ? SLUICE_SERVICE_SILENT : 0);
  if (target.masquerade) outside |= SLUICE_SERVICE_MASQUERADE;
  elements.emplace(SLUICE_SCOPE_OUTSIDE,
                   Wanted{target.external, outside, affinity, id, target.source_ranges});
  return elements;
}

sluice_service Services::value_of(const sluice_service_key& key, const Region& region, const Wanted& wanted) {
  sluice_service value{};
  value.first = region.first;
  value.count = region.count;
  value.flags = wanted.flags;
  value.affinity_s = wanted.affinity_s;
  value.id = wanted.id;
  value.sources = ServiceSources::number_of(wanted.source_ranges);
  value.seal = sluice_service_seal(&key, &value);
  return value;
}

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

Result<void> Services::apply(const service::Table& table) {
  if (!adopted_)
    if (auto done = adopt(); !done) return done;
  // One that has no room does not stop the others. What goes makes room, so it is tried again after that.
  std::vector<service::Table::value_type> failed;
  for (const auto& [frontend, target] : table) {
    const auto known = applied_.find(frontend);
    if (known != applied_.end() && known->second == target) continue;
    if (auto done = write(frontend, target); !done) failed.emplace_back(frontend, target);
  }
  for (auto it = applied_.begin(); it != applied_.end();) {
    const auto frontend = it->first;
    ++it;
    if (table.contains(frontend)) continue;
    if (auto done = write(frontend, nullptr); !done) return done;
  }
  if (!failed.empty() && inherited_)
    if (auto done = erase_unwanted(table); !done) return done;
  std::string first_problem;
  std::size_t unserved = 0;
  for (const auto& [frontend, target] : failed) {
    auto done = write(frontend, target);
    if (done) continue;
    if (unserved++ == 0) first_problem = fmt::format("{}: {}", target->service, done.error().message);
  }
  if (unserved > 0)
    return failure("{} frontends are not as they should be, first that of {}", unserved, first_problem);
  return inherited_ ? drop_inherited() : Result<void>{};
}

// The new element is there before the old one's slots are given up; scopes that go, go last.
Result<void> Services::write(const service::Frontend& frontend,
                             std::shared_ptr<const service::Target> target) {
  const auto wanted = target ? elements_of(frontend, *target) : std::map<std::uint8_t, Wanted>{};
  auto& present = elements_[frontend];
  for (const auto& [scope, element] : wanted) {
    const Region* before = nullptr;
    if (inherited_) {
      if (const auto scopes = inherited_->elements.find(frontend); scopes != inherited_->elements.end())
        if (const auto found = scopes->second.find(scope); found != scopes->second.end())
          before = &found->second;
    }
    auto region = hold(element.pool, before);
    if (!region) return tl::unexpected(region.error());
    const auto key = key_of(frontend, scope);
    auto done = sources_.hold(element.source_ranges);
    const Element made{element.pool, element.id, done ? ServiceSources::number_of(element.source_ranges) : 0};
    SLUICE_FAULT_POINT("service.slots_filled");
    auto held = hold_affine(made);
    if (done) done = std::move(held);
    if (done) done = maps_.services.update(key, value_of(key, *region, element));
    if (!done) {
      let_go(made);
      return done;
    }
    SLUICE_FAULT_POINT("service.written");
    if (auto old = std::exchange(present[scope], made); old.pool) {
      note_gone(frontend, *old.pool, *made.pool);
      let_go(old);
    }
  }
  for (auto it = present.begin(); it != present.end();) {
    if (wanted.contains(it->first)) {
      ++it;
      continue;
    }
    if (auto done = maps_.services.erase(key_of(frontend, it->first)); !done)
      return tl::unexpected(done.error());
    note_gone(frontend, *it->second.pool, {});
    let_go(it->second);
    it = present.erase(it);
  }
  if (present.empty()) elements_.erase(frontend);
  if (target)
    applied_.insert_or_assign(frontend, std::move(target));
  else
    applied_.erase(frontend);
  return {};
}

void Services::note_gone(const service::Frontend& frontend, const service::Pool& before,
                         const service::Pool& now) {
  if (frontend.protocol != model::Protocol::kUdp) return;
  std::vector<service::Backend> gone;
  std::set_difference(before.backends.begin(), before.backends.end(), now.backends.begin(),
                      now.backends.end(), std::back_inserter(gone));
  if (!gone.empty()) gone_[frontend].insert(gone.begin(), gone.end());
}

Result<Services::Region> Services::hold(const std::shared_ptr<const service::Pool>& pool,
                                        const Region* present) {
  if (const auto known = pools_.find(pool); known != pools_.end()) {
    ++known->second.users;
    return known->second.region;
  }
  if (present != nullptr && !pool->slots.empty() && claim(*pool, *present)) {
    pools_.emplace(pool, Held{*present, 1});
    return *present;
  }
  auto region = fill(*pool);
  if (region) pools_.emplace(pool, Held{*region, 1});
  return region;
}

Result<Services::Region> Services::fill(const service::Pool& pool) {
  const auto count = static_cast<std::uint32_t>(pool.slots.size());
  if (count == 0) return Region{};
  auto first = slots_.allocate(count);
  if (!first) {
    if (auto done = collect(); !done) return tl::unexpected(done.error());
    first = slots_.allocate(count);
  }
  if (!first)
    return failure("no room for {} slots of a Service's backends: all {} are in use", count,
                   std::uint32_t{SLUICE_MAX_SERVICE_SLOTS});
  std::vector<std::uint32_t> ids;
  const auto undo = [&] {
    std::vector<std::uint32_t> released;
    let_go_backends(
        {{pool.backends.begin(), pool.backends.begin() + static_cast<std::ptrdiff_t>(ids.size())}, {}},
        released);
    for (const auto id : released) ids_.release(id, 1);  // no slot has told a packet of them
    slots_.release(*first, count);
  };
  for (const auto& backend : pool.backends) {
    auto id = hold_backend(backend);
    if (!id) {
      undo();
      return tl::unexpected(id.error());
    }
    ids.push_back(*id);
  }
  std::vector<std::uint32_t> keys(count), values;
  std::iota(keys.begin(), keys.end(), *first);
  values.reserve(count);
  for (const auto slot : pool.slots) values.push_back(ids[slot]);
  if (auto done = maps_.service_slots.update(keys, values); !done) {
    undo();
    return tl::unexpected(done.error());
  }
  return Region{*first, count};
}

Result<std::uint32_t> Services::hold_backend(const service::Backend& backend) {
  if (const auto known = backends_.find(backend); known != backends_.end()) {
    ++known->second.users;
    return known->second.id;
  }
  auto id = ids_.allocate(1);
  if (!id) {
    if (auto done = collect(); !done) return tl::unexpected(done.error());
    id = ids_.allocate(1);
  }
  if (!id)
    return failure("no room for another backend of a Service: all {} are in use",
                   std::uint32_t{SLUICE_MAX_BACKENDS});
  sluice_backend value{};
  value.addr = backend.address.abi();
  value.port_be = htons(backend.port);
  if (auto done = maps_.backends.update(*id, value); !done) {
    ids_.release(*id, 1);
    return tl::unexpected(done.error());
  }
  backends_.emplace(backend, Known{*id, 1});
  return *id;
}

// For each backend, also where it fails, so that let_go() is the way back.
Result<void> Services::hold_affine(const Element& element) {
  if (element.affine == 0) return {};
  Result<void> all;
  for (const auto& backend : element.pool->backends) {
    const Affine affine{element.affine, backends_.at(backend).id};
    if (++affine_[affine] > 1) continue;
    if (auto done = maps_.affine.update(affine_key(affine.first, affine.second), 0); !done)
      all = std::move(done);
  }
  return all;
}

void Services::let_go(const Element& element) {
  if (element.affine != 0) {
    for (const auto& backend : element.pool->backends) {
      const Affine affine{element.affine, backends_.at(backend).id};
      const auto held = affine_.find(affine);
      if (--held->second > 0) continue;
      affine_.erase(held);
      if (auto done = maps_.affine.erase(affine_key(affine.first, affine.second)); !done)
        spdlog::warn("a client may keep a backend that its Service has no more: {}", done.error().message);
    }
  }
  sources_.let_go(element.sources);
  const auto held = pools_.find(element.pool);
  if (held == pools_.end() || --held->second.users > 0) return;
  Released released{grace_.begin(), {}, {}};
  if (held->second.region.count > 0) released.slots.push_back(held->second.region);
  let_go_backends(*element.pool, released.backends);
  pools_.erase(held);
  if (!released.slots.empty()) released_.push_back(std::move(released));
}

void Services::let_go_backends(const service::Pool& pool, std::vector<std::uint32_t>& released) {
  for (const auto& backend : pool.backends) {
    const auto known = backends_.find(backend);
    if (known == backends_.end() || --known->second.users > 0) continue;
    released.push_back(known->second.id);
    backends_.erase(known);
  }
}

Result<void> Services::collect() {
  if (auto done = sources_.collect(); !done) return done;
  if (released_.empty()) return {};
  if (auto done = grace_.wait(released_.back().ticket); !done) return done;
  for (const auto& each : released_) {
    for (const auto& region : each.slots) slots_.release(region.first, region.count);
    for (const auto id : each.backends) ids_.release(id, 1);
  }
  released_.clear();
  return {};
}

Result<void> Services::audit(std::vector<std::string>& differences) const {
  if (!adopted_) return {};
  auto present = maps_.services.entries();
  if (!present) return tl::unexpected(present.error());
  std::map<sluice_service_key, sluice_service, KeyLess> found(present->begin(), present->end());
  const auto name = [](const service::Frontend& frontend, std::uint8_t scope) {
    return fmt::format("services: {} port {} protocol {} for {}", frontend.address.to_string(), frontend.port,
                       static_cast<unsigned>(frontend.protocol),
                       scope == SLUICE_SCOPE_INSIDE ? "inside" : "outside");
  };
  for (const auto& [frontend, target] : applied_) {
    for (const auto& [scope, element] : elements_of(frontend, *target)) {
      const auto key = key_of(frontend, scope);
      const auto here = found.find(key);
      if (here == found.end()) {
        differences.push_back(name(frontend, scope) + " is missing");
        continue;
      }
      const auto wanted = value_of(key, pools_.at(element.pool).region, element);
      if (std::memcmp(&wanted, &here->second, sizeof wanted) != 0)
        differences.push_back(name(frontend, scope) + " differs");
      found.erase(here);
    }
  }
  for (const auto& [key, value] : found)
    differences.push_back(fmt::format("services: {} port {} should not be there",
                                      Address::from_abi(key.addr).to_string(), ntohs(key.port_be)));
  return sources_.audit(differences).and_then([&] { return audit_pools(differences); });
}

Result<void> Services::audit_pools(std::vector<std::string>& differences) const {
  for (const auto& [backend, known] : backends_) {
    auto value = maps_.backends.lookup(known.id);
    if (!value) return tl::unexpected(value.error());
    if (!*value || Address::from_abi((*value)->addr) != backend.address ||
        ntohs((*value)->port_be) != backend.port)
      differences.push_back(
          fmt::format("backends: {} is not {} port {}", known.id, backend.address.to_string(), backend.port));
  }
  std::map<std::uint32_t, std::uint32_t> regions;
  for (const auto& [pool, held] : pools_)
    if (held.region.count > 0) regions.emplace(held.region.first, held.region.count);
  std::vector<std::uint32_t> slots(SLUICE_MAX_SERVICE_SLOTS);
  if (auto done = read_slots(maps_, regions, slots); !done) return done;
  for (const auto& [pool, held] : pools_)
    for (std::uint32_t i = 0; i < held.region.count; ++i)
      if (const auto& backend = pool->backends[pool->slots[i]];
          slots[held.region.first + i] != backends_.at(backend).id)
        differences.push_back(fmt::format("service_slots: {} is not {} port {}", held.region.first + i,
                                          backend.address.to_string(), backend.port));
  return {};
}

}  // namespace sluice::datapath
