// SPDX-License-Identifier: Apache-2.0
// Kubernetes objects from JSON: what the API server sends, and what the YAML folder holds (turned into JSON first).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/model/objects.h"

namespace sluice::model {

struct Parsed {
  Object object;
  // A field that this version does not know or a peer that cannot be understood. Nothing it stands in admits more
  // than it would without it: such a peer or port matches nothing.
  std::vector<std::string> warnings;
};

// An object of a kind that Sluice does not use (a Deployment in the YAML folder) is no error: no value.
// An error names the object and the field, e.g. "NetworkPolicy shop/x: spec.ingress[0].ports[1].port: 70000 is not …".
// Never throws; garbage of any shape gives an error.
[[nodiscard]] Result<std::optional<Parsed>> parse_object(const nlohmann::json& json);
[[nodiscard]] Result<Parsed> parse_object(const nlohmann::json& json, Kind kind);

}  // namespace sluice::model
