// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "daemon/datapath/datapath.h"

namespace sluice::datapath {

namespace {

constexpr std::array<const char*, SLUICE_HOOK_COUNT> kHooks{"pod",   "host",   "overlay", "uplink",
                                                            "probe", "answer", "bare"};
constexpr std::array<const char*, SLUICE_MODULE_COUNT> kModuleNames{
    "entry",     "nat",   "bridge",  "router", "firewall", "nat_commit", "deliver",
    "candidate", "probe", "nat_new", "refuse", "socket",   "sweep"};
constexpr std::array<const char*, SLUICE_DROP_COUNT> kReasons{
#define SLUICE_X(name, text) #name,
    SLUICE_DROP_REASONS(SLUICE_X)
#undef SLUICE_X
};
constexpr std::array<const char*, SLUICE_DROP_COUNT> kReasonTexts{
#define SLUICE_X(name, text) text,
    SLUICE_DROP_REASONS(SLUICE_X)
#undef SLUICE_X
};

// Numbers come from the kernel's maps and may be those of a newer build.
template <typename Names>
const char* name_in(const Names& names, std::uint32_t index) {
  return index < names.size() ? names[index] : "unknown";
}

}  // namespace

const char* hook_name(std::uint32_t hook) { return name_in(kHooks, hook); }
const char* drop_reason_name(std::uint32_t reason) { return name_in(kReasons, reason); }
const char* drop_reason_text(std::uint32_t reason) { return name_in(kReasonTexts, reason); }
const char* module_name(std::uint32_t module) { return name_in(kModuleNames, module); }

}  // namespace sluice::datapath
