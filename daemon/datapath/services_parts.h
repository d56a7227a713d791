// SPDX-License-Identifier: Apache-2.0
// Internal to Services: what its parts have in common.
#pragma once

#include <arpa/inet.h>

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "daemon/datapath/services.h"

namespace sluice::datapath {

inline sluice_service_key key_of(const service::Frontend& frontend, std::uint8_t scope) {
  sluice_service_key key{};
  key.addr = frontend.address.abi();
  key.port_be = htons(frontend.port);
  key.proto = static_cast<std::uint8_t>(frontend.protocol);
  key.scope = scope;
  return key;
}

inline sluice_affine_key affine_key(std::uint64_t service, std::uint32_t backend) {
  return {service, backend, 0};
}

// Of `service_slots`, the regions first -> count.
[[nodiscard]] Result<void> read_slots(const Maps& maps, const std::map<std::uint32_t, std::uint32_t>& regions,
                                      std::vector<std::uint32_t>& into);

struct Services::Wanted {
  std::shared_ptr<const service::Pool> pool;
  std::uint32_t flags = 0;
  std::uint32_t affinity_s = 0;
  std::uint64_t id = 0;
  const std::vector<Prefix>& source_ranges;  // the target's
};

}  // namespace sluice::datapath
