// SPDX-License-Identifier: Apache-2.0
// Kubernetes objects from JSON: what the API server sends, and what the YAML folder holds (turned into JSON
// first).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/model/objects.h"
#include "daemon/model/tree.h"

namespace sluice::model {

struct Parsed {
  Object object;
  // A field that this version does not know or a peer that cannot be understood. Nothing it stands in admits
  // more than it would without it: such a peer or port matches nothing.
  std::vector<std::string> warnings;
};

// An object of a kind that Sluice does not use (a Deployment in the YAML folder) is no error: no value.
// An error names the object and the field, e.g. "NetworkPolicy shop/x: spec.ingress[0].ports[1].port: 70000
// is not …". Never throws; garbage of any shape gives an error.
[[nodiscard]] Result<std::optional<Parsed>> parse_object(const Value& json);
[[nodiscard]] Result<Parsed> parse_object(const Value& json, Kind kind);

// Stands in for a NetworkPolicy that cannot be used and of which nothing was known before: the pods that it
// selects are isolated and nothing is admitted. Where it does not say readably which pods or directions, it
// is all of its namespace and both. None: not even whose it is can be read.
[[nodiscard]] std::optional<Object> closed_policy(const Value& json);
inline constexpr const char* kClosedPolicy =
    "; until it is corrected, the pods that it selects are isolated and it admits nothing";
inline constexpr const char* kKeepsEarlier = "; what was known of it before stays in force";

}  // namespace sluice::model
