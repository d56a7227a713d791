// SPDX-License-Identifier: Apache-2.0
// Members of runtimeConfig. containerd writes its capabilities' arguments by the names of its Go fields
// ("HostPort", "IngressRate"), which the reference plugins take for "hostPort" and "ingressRate": Go's
// decoder ignores case.
#pragma once

#include <strings.h>

#include <nlohmann/json.hpp>
#include <string>

namespace sluice {

// The member of that very name, else the first one whose name differs in case only; end() if there is none.
inline nlohmann::json::const_iterator find_member(const nlohmann::json& object, const std::string& name) {
  if (const auto exact = object.find(name); exact != object.end()) return exact;
  for (auto member = object.begin(); member != object.end(); ++member)
    if (strcasecmp(member.key().c_str(), name.c_str()) == 0) return member;
  return object.end();
}

}  // namespace sluice
