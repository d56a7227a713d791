// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/maps.h"

namespace sluice::datapath {

Result<Maps> Maps::open(const Pins& pins) {
  Maps maps;
  Result<void> all;
  const auto open_one = [&](auto& map, const char* name) {
    if (!all) return;
    auto opened = std::remove_reference_t<decltype(map)>::open(pins.map(name));
    if (opened)
      map = std::move(*opened);
    else
      all = tl::unexpected(opened.error());
  };
  open_one(maps.packet, "packet");
  open_one(maps.generation_stats, "generation_stats");
  open_one(maps.live, "live");
  open_one(maps.modules, "modules");
  open_one(maps.module_info, "module_info");
  open_one(maps.endpoints, "endpoints");
  open_one(maps.ifaces, "ifaces");
  open_one(maps.macs, "macs");
  open_one(maps.locals, "locals");
  open_one(maps.routes, "routes");
  open_one(maps.uplinks, "uplinks");
  open_one(maps.masquerade_addresses, "masquerade_addresses");
  open_one(maps.conntrack_groups, "conntrack_groups");
  open_one(maps.conntrack, "conntrack");
  open_one(maps.conntrack_use, "conntrack_use");
  open_one(maps.services, "services");
  open_one(maps.service_addresses, "service_addresses");
  open_one(maps.service_sources, "service_sources");
  open_one(maps.service_slots, "service_slots");
  open_one(maps.backends, "backends");
  open_one(maps.affine, "affine");
  open_one(maps.peer_blocks, "peer_blocks");
  open_one(maps.tables, "tables");
  open_one(maps.port_classes, "port_classes");
  if (!all) return tl::unexpected(all.error());
  auto events = RawMap::open(pins.map("events"), {0, 0});
  if (!events) return tl::unexpected(events.error());
  maps.events = std::move(*events);
  return maps;
}

}  // namespace sluice::datapath
