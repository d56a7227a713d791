// SPDX-License-Identifier: Apache-2.0
// The name of the host's end of a pod's link: "slu" and 11 hexadecimal digits of a hash. The same attachment
// always has the same name, so that DEL needs no record of what ADD did, and the daemon knows its own links.
#pragma once

#include <string>

namespace sluice {

[[nodiscard]] std::string host_link_name(const std::string& container_id, const std::string& ifname);
[[nodiscard]] bool is_host_link_name(const std::string& name);

}  // namespace sluice
