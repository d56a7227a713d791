// SPDX-License-Identifier: Apache-2.0
// Security modules refuse with the same errno as the kernel's own permissions: an error that may be theirs
// must say so.
#pragma once

#include <string>

namespace sluice {

// What AppArmor says of this process, as "cri-containerd.apparmor.d (enforce)"; empty where there is none.
[[nodiscard]] std::string apparmor_label();

// What to add to "permission denied" for a process with this label; empty if no profile can be the cause.
[[nodiscard]] std::string apparmor_hint(const std::string& label);

}  // namespace sluice
