// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/status.h"

#include <bpf/bpf.h>
#include <net/if.h>

#include <cerrno>

#include "daemon/datapath/modules.h"

namespace sluice::datapath {

namespace {

constexpr std::size_t kInstructionSize = 8;

Result<ModuleStatus> describe(const std::string& path, const char* name, std::uint32_t slot) {
  auto fd = Pins::get(path);
  if (!fd) return tl::unexpected(fd.error());
  bpf_prog_info info{};
  std::uint32_t length = sizeof info;
  const auto ask = [&]() -> Result<void> {
    if (const int code = bpf_obj_get_info_by_fd(fd->get(), &info, &length); code < 0)
      return failure_errno(code, "ask the kernel about " + path);
    return {};
  };
  if (auto done = ask(); !done) return tl::unexpected(done.error());
  ModuleStatus status;
  status.name = name;
  status.slot = slot;
  status.program_id = info.id;
  for (const auto byte : info.tag) status.tag += fmt::format("{:02x}", byte);
  status.instructions = static_cast<std::uint32_t>(info.xlated_prog_len / kInstructionSize);
  // Asked again, with room for as many ids as there are.
  status.map_ids.resize(info.nr_map_ids);
  const auto count = info.nr_map_ids;
  info = {};
  info.nr_map_ids = count;
  info.map_ids = reinterpret_cast<std::uint64_t>(status.map_ids.data());
  if (auto done = ask(); !done) return tl::unexpected(done.error());
  return status;
}

LinkStatus named(LinkStatus link) {
  char name[IF_NAMESIZE] = {};
  if (if_indextoname(link.ifindex, name) != nullptr) link.name = name;
  return link;
}

}  // namespace

Result<std::vector<ModuleStatus>> module_status(const Pins& pins, const Maps& maps) {
  std::vector<ModuleStatus> modules;
  for (const auto& program : kPrograms) {
    auto status = describe(pins.program(program.name), program.name, program.slot.value_or(program.module));
    if (!status) return tl::unexpected(status.error());
    modules.push_back(std::move(*status));
  }
  auto in_force = maps.modules.lookup(SLUICE_MODULE_FIREWALL);
  if (!in_force) return tl::unexpected(in_force.error());
  for (const auto number : pins.generations()) {
    auto status = describe(pins.generation_program(number), "firewall", SLUICE_MODULE_FIREWALL);
    // A generation that is just being made or removed is none of the modules.
    if (!status || status->program_id != in_force->value_or(0)) continue;
    modules.push_back(std::move(*status));
  }
  return modules;
}

Result<std::vector<LinkStatus>> link_status(const Maps& maps, const Settings& settings,
                                            const Attacher& attacher) {
  std::vector<LinkStatus> links;
  const auto add = [&](std::uint32_t ifindex) {
    if (ifindex == 0) return;
    if (auto status = attacher.attached(ifindex)) links.push_back(named(std::move(*status)));
  };
  auto config = settings.get();
  if (!config) return tl::unexpected(config.error());
  for (const auto ifindex : {config->net_ifindex, config->vxlan_ifindex}) add(ifindex);
  const auto uplinks = maps.uplinks.entries();
  if (!uplinks) return tl::unexpected(uplinks.error());
  for (const auto& [ifindex, uplink] : *uplinks) add(ifindex);
  auto ifaces = maps.ifaces.entries();
  if (!ifaces) return tl::unexpected(ifaces.error());
  for (const auto& [key, id] : *ifaces) add(key.ifindex);
  return links;
}

Result<std::vector<MapStatus>> map_status(const Pins& pins) {
  std::vector<MapStatus> maps;
  for (const auto& name : pins.maps()) {
    auto fd = Pins::get(pins.map(name));
    if (!fd) return tl::unexpected(fd.error());
    bpf_map_info info{};
    std::uint32_t length = sizeof info;
    if (const int code = bpf_obj_get_info_by_fd(fd->get(), &info, &length); code < 0)
      return failure_errno(code, fmt::format("ask the kernel about map '{}'", name));
    maps.push_back({name, info.id, info.max_entries});
  }
  return maps;
}

Result<void> audit_modules(const Pins& pins, const Maps& maps, std::vector<std::string>& differences) {
  for (const auto& program : kPrograms) {
    auto pinned = open_program(pins.program(program.name));
    if (!pinned) {
      differences.push_back(fmt::format("modules: {}", pinned.error().message));
      continue;
    }
    if (!program.slot) continue;
    auto id = maps.modules.lookup(*program.slot);
    if (!id) return tl::unexpected(id.error());
    if (*id != pinned->id)
      differences.push_back(fmt::format("modules: slot {} has program {}, not {} ({})", *program.slot,
                                        id->value_or(0), pinned->id, program.name));
  }
  return {};
}

}  // namespace sluice::datapath
