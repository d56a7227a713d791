// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/services.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/fault_point.h"
#include "common/fnv.h"
#include "daemon/datapath/services_parts.h"

namespace sluice::datapath {

namespace {

std::uint64_t id_of(const std::string& service) { return std::max<std::uint64_t>(fnv1a(service), 1); }

}  // namespace

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
  std::vector<service::Frontend> unserved;
  for (const auto& [frontend, target] : failed) {
    auto done = write(frontend, target);
    if (done) continue;
    if (unserved.empty()) first_problem = fmt::format("{}: {}", target->service, done.error().message);
    unserved.push_back(frontend);
  }
  if (std::exchange(udp_changed_, !unserved.empty()))
    udp_ = std::make_shared<const UdpServices>(applied_, unserved);
  if (!unserved.empty())
    return failure("{} frontends are not as they should be, first that of {}", unserved.size(),
                   first_problem);
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
    if (const auto old = std::exchange(present[scope], made); old.pool) let_go(old);
  }
  for (auto it = present.begin(); it != present.end();) {
    if (wanted.contains(it->first)) {
      ++it;
      continue;
    }
    if (auto done = maps_.services.erase(key_of(frontend, it->first)); !done)
      return tl::unexpected(done.error());
    let_go(it->second);
    it = present.erase(it);
  }
  if (present.empty()) elements_.erase(frontend);
  udp_changed_ |= frontend.protocol == model::Protocol::kUdp;
  if (target)
    applied_.insert_or_assign(frontend, std::move(target));
  else
    applied_.erase(frontend);
  return {};
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

}  // namespace sluice::datapath
