// SPDX-License-Identifier: Apache-2.0
// What the bodies of CNI requests have in common.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "common/result.h"
#include "daemon/ipam/ipam.h"

namespace sluice::controller {

// A string field of a request; missing, or of another type: empty.
inline std::string text(const nlohmann::json& body, const char* field) {
  const auto found = body.is_object() ? body.find(field) : body.end();
  return found != body.end() && found->is_string() ? found->get<std::string>() : "";
}

inline Result<ipam::AttachmentKey> key_from(const nlohmann::json& body) {
  ipam::AttachmentKey key{text(body, "containerID"), text(body, "ifname")};
  if (key.container_id.empty() || key.ifname.empty())
    return failure("the request names no attachment: containerID and ifname must be non-empty strings");
  return key;
}

}  // namespace sluice::controller
