// SPDX-License-Identifier: Apache-2.0
// Whether the kernel's maps say of Services what was written.
#include <cstring>

#include "daemon/datapath/services_parts.h"

namespace sluice::datapath {

namespace {

// Beyond that, reading all of the array is quicker.
constexpr std::uint32_t kReadSingly = 1 << 16;

}  // namespace

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
