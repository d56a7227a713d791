// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/modules.h"

#include <bpf/bpf.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <vector>

#include "bridge.skel.h"
#include "common/fault_point.h"
#include "daemon/datapath/map.h"
#include "deliver.skel.h"
#include "entry.skel.h"
#include "nat.skel.h"
#include "probe.skel.h"
#include "refuse.skel.h"
#include "router.skel.h"
#include "socket.skel.h"
#include "sweep.skel.h"

namespace sluice::datapath {

namespace {

// One object on its way into the kernel: opened and compared first, loaded when all others are known to fit.
struct Pending {
  std::uint32_t module = 0;
  std::uint64_t code_hash = 0;
  std::function<Result<bpf_object*>()> load;  // the object lives as long as this
};

template <typename Skeleton>
Result<Pending> open_pending(std::uint32_t module, const ObjectOptions& options) {
  auto opened = Object<Skeleton>::open(options);
  if (!opened) return tl::unexpected(opened.error());
  auto object = std::make_shared<Object<Skeleton>>(std::move(*opened));
  auto load = [object]() -> Result<bpf_object*> {
    return object->load().map([&] { return (*object)->obj; });
  };
  return Pending{module, Object<Skeleton>::code_hash(), std::move(load)};
}

struct Module {
  std::uint32_t module;
  std::uint64_t (*code_hash)();
  Result<Pending> (*open)(std::uint32_t module, const ObjectOptions& options);
};

template <typename Skeleton>
constexpr Module embedded(std::uint32_t module) {
  return {module, &Object<Skeleton>::code_hash, &open_pending<Skeleton>};
}

// Against the way of a packet: a module is replaced after those that it calls.
constexpr std::array<Module, 9> kModules{
    embedded<deliver_bpf>(SLUICE_MODULE_DELIVER), embedded<router_bpf>(SLUICE_MODULE_ROUTER),
    embedded<bridge_bpf>(SLUICE_MODULE_BRIDGE),   embedded<refuse_bpf>(SLUICE_MODULE_REFUSE),
    embedded<nat_bpf>(SLUICE_MODULE_NAT),         embedded<socket_bpf>(SLUICE_MODULE_SOCKET),
    embedded<probe_bpf>(SLUICE_MODULE_PROBE),     embedded<sweep_bpf>(SLUICE_MODULE_SWEEP),
    embedded<entry_bpf>(SLUICE_MODULE_ENTRY),
};

struct ModuleMaps {
  Map<std::uint32_t, std::uint32_t> slots;
  Map<std::uint32_t, sluice_module_info> info;
};

Result<ModuleMaps> open_maps(const Pins& pins) {
  auto slots = Map<std::uint32_t, std::uint32_t>::open(pins.map("modules"));
  if (!slots) return tl::unexpected(slots.error());
  auto info = Map<std::uint32_t, sluice_module_info>::open(pins.map("module_info"));
  if (!info) return tl::unexpected(info.error());
  return ModuleMaps{std::move(*slots), std::move(*info)};
}

// Whether what is pinned for the module is this build's code, in its slots.
bool is_current(const Module& module, const Pins& pins, const ModuleMaps& maps) {
  auto info = maps.info.lookup(module.module);
  if (!info || !*info || (*info)->code_hash != module.code_hash()) return false;
  return std::all_of(kPrograms.begin(), kPrograms.end(), [&](const ProgramInfo& each) {
    if (each.module != module.module) return true;
    auto program = open_program(pins.program(each.name));
    if (!program) return false;
    if (!each.slot) return true;
    auto id = maps.slots.lookup(*each.slot);
    return id && *id && **id == program->id;
  });
}

Result<void> install(const Pending& pending, const Pins& pins) {
  auto object = pending.load();
  if (!object) return tl::unexpected(object.error());
  SLUICE_FAULT_POINT("module.loaded");
  auto maps = open_maps(pins);  // made by the load if this is the first
  if (!maps) return tl::unexpected(maps.error());
  sluice_module_info info{pending.code_hash, 0, 0};
  for (const auto& [name, module, slot] : kPrograms) {
    if (module != pending.module) continue;
    const bpf_program* program = bpf_object__find_program_by_name(*object, name);
    if (program == nullptr) return failure("the embedded object has no program '{}'", name);
    const int fd = bpf_program__fd(program);
    // The slot is overwritten, never emptied: no packet finds it vacant.
    if (slot)
      if (auto done = maps->slots.update(*slot, static_cast<std::uint32_t>(fd)); !done) return done;
    SLUICE_FAULT_POINT("module.slot_written");
    if (auto done = Pins::put(fd, pins.program(name)); !done) return done;
    SLUICE_FAULT_POINT("module.pinned");
    auto pinned = open_program(pins.program(name));
    if (!pinned) return tl::unexpected(pinned.error());
    if (info.prog_id == 0) info.prog_id = pinned->id;
  }
  // Last: a daemon that is killed before this does it all again.
  if (auto done = maps->info.update(pending.module, info); !done) return done;
  SLUICE_FAULT_POINT("module.recorded");
  return {};
}

}  // namespace

Result<Program> open_program(const std::string& path) {
  auto fd = Pins::get(path);
  if (!fd) return tl::unexpected(fd.error());
  bpf_prog_info info{};
  std::uint32_t length = sizeof info;
  if (const int code = bpf_obj_get_info_by_fd(fd->get(), &info, &length); code < 0)
    return failure_errno(code, "ask the kernel about " + path);
  return Program{std::move(*fd), info.id, std::chrono::nanoseconds(info.load_time)};
}

Result<std::uint32_t> run_program(const Program& program, std::span<std::byte> input, const char* what) {
  constexpr std::size_t kEthernetHeader = 14;
  std::vector<std::byte> packet(kEthernetHeader + input.size());
  std::ranges::copy(input, packet.begin() + kEthernetHeader);
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = options.data_out = packet.data();
  options.data_size_in = options.data_size_out = static_cast<std::uint32_t>(packet.size());
  options.repeat = 1;
  if (const int code = bpf_prog_test_run_opts(program.fd.get(), &options); code < 0)
    return failure_errno(code, fmt::format("{} (BPF_PROG_TEST_RUN)", what));
  std::copy(packet.begin() + kEthernetHeader, packet.end(), input.begin());
  return options.retval;
}

Result<Modules> Modules::load(const Pins& pins, const ObjectOptions& options) {
  auto maps = open_maps(pins);
  if (!maps && maps.error().code != ENOENT) return tl::unexpected(maps.error());
  std::vector<Pending> opened;
  for (const auto& module : kModules) {
    auto object = module.open(module.module, options);
    if (!object) return tl::unexpected(object.error());
    opened.push_back(std::move(*object));
  }
  // Programs that hold a map which nobody finds any more would go on with what stands in it.
  const auto& lost = *options.unpinned_maps;
  const bool all = !maps || !lost.empty();
  const auto is_here = [&](const Module& module) { return is_current(module, pins, *maps); };
  // Another build may have had fewer maps.
  if (maps && !lost.empty() && std::ranges::any_of(kModules, is_here))
    spdlog::error(
        "pins of maps are gone: somebody removed {}. They are made anew, empty, and all modules are loaded "
        "again; what stood in them is written again from the records and the cluster's objects",
        fmt::join(lost, ", "));
  for (std::size_t i = 0; i < kModules.size(); ++i)
    if (all || !is_here(kModules[i]))
      if (auto done = install(opened[i], pins); !done) return tl::unexpected(done.error());

  Modules modules;
  const auto take = [&](Program& into, const char* name) -> Result<void> {
    auto program = open_program(pins.program(name));
    if (!program) return tl::unexpected(program.error());
    into = std::move(*program);
    return {};
  };
  auto done = take(modules.entry[SLUICE_HOOK_POD], "entry_pod")
                  .and_then([&] { return take(modules.entry[SLUICE_HOOK_HOST], "entry_host"); })
                  .and_then([&] { return take(modules.entry[SLUICE_HOOK_OVERLAY], "entry_overlay"); })
                  .and_then([&] { return take(modules.entry[SLUICE_HOOK_UPLINK], "entry_uplink"); })
                  .and_then([&] { return take(modules.entry[SLUICE_HOOK_BARE], "entry_bare"); })
                  .and_then([&] { return take(modules.probe, "probe"); })
                  .and_then([&] { return take(modules.sweep, "sweep"); });
  for (std::size_t i = 0; done && i < kSocketPrograms.size(); ++i)
    done = take(modules.socket[i], kSocketPrograms[i]);
  if (!done) return tl::unexpected(done.error());
  return modules;
}

}  // namespace sluice::datapath
