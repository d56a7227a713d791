// SPDX-License-Identifier: Apache-2.0
// Where the daemon and the CNI binary meet on a node, unless their configuration says otherwise.
#pragma once

#include <string>

namespace sluice {

inline constexpr const char* kDefaultRunDir = "/run/sluice";  // gone with a boot, as the attachments are
inline constexpr const char* kDefaultSocket = "/run/sluice/sluice.sock";
// Below the folder where CNI plugins keep their state.
inline constexpr const char* kDefaultStateDir = "/var/lib/cni/sluice";
// What the CNI binary leaves for a daemon that is away (cni/deletions.h).
inline std::string deletions_folder(const std::string& state_dir) { return state_dir + "/deletions"; }

}  // namespace sluice
