// SPDX-License-Identifier: Apache-2.0
// What sluiced answers (docs/api.md), for people. Fields that an older daemon does not send are shown as
// empty or 0; a field of another type than documented throws nlohmann::json::exception.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/timestamp.h"

namespace sluice::cli {

[[nodiscard]] std::string render_status(const nlohmann::json& status, Time now);
[[nodiscard]] std::string render_endpoints(const nlohmann::json& answer);
[[nodiscard]] std::string render_policy(const nlohmann::json& answer);
[[nodiscard]] std::string render_firewall(const nlohmann::json& answer, Time now);
[[nodiscard]] std::string render_services(const nlohmann::json& answer);
[[nodiscard]] std::string render_service(const nlohmann::json& answer);  // one, by its addresses
[[nodiscard]] std::string render_connections(const nlohmann::json& answer);
[[nodiscard]] std::string render_flushed(const nlohmann::json& answer);
[[nodiscard]] std::string render_modules(const nlohmann::json& answer);
[[nodiscard]] std::string render_event(const nlohmann::json& event);  // one line of the monitor

}  // namespace sluice::cli
