// SPDX-License-Identifier: Apache-2.0
// Every map that the modules share, by its name in bpf/lib/maps.h.
#pragma once

#include "bpf/abi.h"
#include "daemon/datapath/map.h"
#include "daemon/datapath/pins.h"

namespace sluice::datapath {

struct Maps {
  [[nodiscard]] static Result<Maps> open(const Pins& pins);

  PerCpuArray<sluice_cpu> packet;
  PerCpuArray<sluice_generation_stats> generation_stats;
  Map<std::uint32_t, sluice_live> live;
  Map<std::uint32_t, std::uint32_t> modules;  // PROG_ARRAY: takes a program's fd, gives its id
  Map<std::uint32_t, sluice_module_info> module_info;
  Map<std::uint32_t, sluice_endpoint> endpoints;
  Map<sluice_iface_key, std::uint32_t> ifaces;
  Map<sluice_mac_key, std::uint32_t> macs;
  Map<sluice_addr, std::uint32_t> locals;
  Map<sluice_route_key, sluice_route> routes;
  Map<std::uint32_t, sluice_uplink> uplinks;
  Map<std::uint32_t, sluice_addr> masquerade_addresses;
  Map<std::uint32_t, sluice_ct_group> conntrack_groups;
  Map<std::uint32_t, sluice_ct_pool> conntrack;
  Map<std::uint32_t, std::int64_t> conntrack_use;
  Map<sluice_service_key, sluice_service> services;
  Map<sluice_route_key, std::uint32_t> service_addresses;
  Map<sluice_source_key, std::uint32_t> service_sources;
  Map<std::uint32_t, std::uint32_t> service_slots;
  Map<std::uint32_t, sluice_backend> backends;
  Map<sluice_affine_key, std::uint32_t> affine;
  Map<sluice_route_key, sluice_peer_block> peer_blocks;
  Map<sluice_row_key, sluice_row> tables;
  Map<sluice_port_key, std::uint32_t> port_classes;
  RawMap events;
};

}  // namespace sluice::datapath
