// SPDX-License-Identifier: Apache-2.0
// The modules but for the firewall: loaded, pinned under progs/, and in their slots of `modules`.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "bpf/abi.h"
#include "common/fd.h"
#include "common/result.h"
#include "daemon/datapath/object.h"
#include "daemon/datapath/pins.h"

namespace sluice::datapath {

struct Program {
  Fd fd;
  std::uint32_t id = 0;
  std::chrono::nanoseconds loaded{};  // since boot
};

[[nodiscard]] Result<Program> open_program(const std::string& path);
// Runs it once by BPF_PROG_TEST_RUN: `input` stands behind an Ethernet header, and is afterwards as the
// program left it. Gives what the program returned. `what`: for the error.
[[nodiscard]] Result<std::uint32_t> run_program(const Program& program, std::span<std::byte> input,
                                                const char* what);

// The socket module's, each named as the hook of a cgroup that it is for.
inline constexpr std::array<const char*, 7> kSocketPrograms{
    "connect4", "connect6", "sendmsg4", "recvmsg4", "recvmsg6", "getpeername4", "getpeername6"};

// The programs that are reached otherwise than by a tail call.
struct Modules {
  // Loads what is not pinned yet or was pinned by a build with other code; with the same build, loads
  // nothing. All pinned layouts are compared before the first change.
  [[nodiscard]] static Result<Modules> load(const Pins& pins, const ObjectOptions& options);

  std::array<Program, SLUICE_HOOK_COUNT> entry;  // by hook; none for SLUICE_HOOK_PROBE
  std::array<Program, kSocketPrograms.size()> socket;
  Program probe;
  Program sweep;
};

// A pinned program, each behind what it calls within its module. Those without a slot are attached or run,
// never tail-called.
struct ProgramInfo {
  const char* name;
  std::uint32_t module;  // enum sluice_module of the object that it comes from
  std::optional<std::uint32_t> slot;
};
inline constexpr std::array<ProgramInfo, 21> kPrograms{{
    {"entry_pod", SLUICE_MODULE_ENTRY, std::nullopt},
    {"entry_host", SLUICE_MODULE_ENTRY, std::nullopt},
    {"entry_overlay", SLUICE_MODULE_ENTRY, std::nullopt},
    {"entry_uplink", SLUICE_MODULE_ENTRY, std::nullopt},
    {"entry_bare", SLUICE_MODULE_ENTRY, std::nullopt},
    {"bridge", SLUICE_MODULE_BRIDGE, SLUICE_MODULE_BRIDGE},
    {"router", SLUICE_MODULE_ROUTER, SLUICE_MODULE_ROUTER},
    {"nat_commit", SLUICE_MODULE_NAT, SLUICE_MODULE_NAT_COMMIT},
    {"nat_new", SLUICE_MODULE_NAT, SLUICE_MODULE_NAT_NEW},
    {"nat", SLUICE_MODULE_NAT, SLUICE_MODULE_NAT},
    {"refuse", SLUICE_MODULE_REFUSE, SLUICE_MODULE_REFUSE},
    {"deliver", SLUICE_MODULE_DELIVER, SLUICE_MODULE_DELIVER},
    {"connect4", SLUICE_MODULE_SOCKET, std::nullopt},
    {"connect6", SLUICE_MODULE_SOCKET, std::nullopt},
    {"sendmsg4", SLUICE_MODULE_SOCKET, std::nullopt},
    {"recvmsg4", SLUICE_MODULE_SOCKET, std::nullopt},
    {"recvmsg6", SLUICE_MODULE_SOCKET, std::nullopt},
    {"getpeername4", SLUICE_MODULE_SOCKET, std::nullopt},
    {"getpeername6", SLUICE_MODULE_SOCKET, std::nullopt},
    {"probe", SLUICE_MODULE_PROBE, std::nullopt},
    {"sweep", SLUICE_MODULE_SWEEP, std::nullopt},
}};

}  // namespace sluice::datapath
