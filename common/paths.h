// SPDX-License-Identifier: Apache-2.0
// Where the daemon and the CNI binary meet on a node, unless their configuration says otherwise.
#pragma once

#include <string>

#include "bpf/abi.h"

namespace sluice {

inline constexpr const char* kDefaultRunDir = "/run/sluice";  // gone with a boot, as the attachments are
inline constexpr const char* kDefaultSocket = "/run/sluice/sluice.sock";
// Below the folder where CNI plugins keep their state.
inline constexpr const char* kDefaultStateDir = "/var/lib/cni/sluice";
inline constexpr const char* kDefaultBpffs = "/sys/fs/bpf";
// Where all pins are; of other builds in the folder of another number.
inline std::string pins_folder(const std::string& bpffs) {
  return bpffs + "/sluice/v" + std::to_string(SLUICE_ABI_VERSION);
}
// A folder for each generation of the rules. One is there while rules are in force, with or without a daemon.
inline std::string generations_folder(const std::string& pins) { return pins + "/generations"; }
// What the CNI binary leaves for a daemon that is away (cni/deletions.h).
inline std::string deletions_folder(const std::string& state_dir) { return state_dir + "/deletions"; }

}  // namespace sluice
