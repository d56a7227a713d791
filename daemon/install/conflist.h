// SPDX-License-Identifier: Apache-2.0
// Network configurations that the runtime reads, as text and as JSON. Those of the runtime's folder are other
// programs' to write, too.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/result.h"

namespace sluice::install {

using Json = nlohmann::json;

inline constexpr const char* kConflist = "05-sluice.conflist";
inline constexpr const char* kPlugin = "sluice-cni";

// Any configuration: a list of plugins (.conflist) or one plugin (.conf, .json).
[[nodiscard]] Result<Json> parse_configuration(const std::string& text);

// A list with Sluice's plugin somewhere in it; an error says why it is none.
[[nodiscard]] Result<Json> parse_own_list(const std::string& text);

// Sluice's plugin must be first: it makes the pod's interface.
[[nodiscard]] bool begins_with_sluice(const Json& list);

// `ours` as it has to be on the node: with the plugins that others (a service mesh) have added to the list
// that is there now, in their places. The list notes in `sluicePlugins` which of its plugins came with it; if
// it does not, those of `ours` did.
[[nodiscard]] Json with_added(const Json& ours, const Json& on_node);
[[nodiscard]] Json without_added(const Json& ours);

// The types of the plugins that others have added.
[[nodiscard]] std::vector<std::string> added_types(const Json& on_node);

// Would a runtime that reads this configuration get a pod's network from Sluice? So it is with a copy of our
// list (Istio makes one), and with a plugin that calls others (Multus), if Sluice is the first that it calls.
[[nodiscard]] bool leads_to_sluice(const Json& configuration);

}  // namespace sluice::install
