// SPDX-License-Identifier: Apache-2.0
// The commands about the network as a whole: GC and STATUS.
#include <filesystem>
#include <string>
#include <system_error>

#include "cni/commands.h"
#include "cni/daemon.h"
#include "common/fault_point.h"
#include "common/paths.h"
#include "daemon/server/api.h"

namespace sluice::cni {

using nlohmann::json;

namespace {

bool rules_in_force(const std::string& bpffs) {
  std::error_code error;  // where it cannot be looked at, nothing is known to be in force
  const std::filesystem::directory_iterator generations(generations_folder(pins_folder(bpffs)), error);
  return !error && generations != std::filesystem::directory_iterator();
}

}  // namespace

Outcome<std::string> gc(const Context& context) {
  auto attachments = json::array();
  for (const auto& key : context.config.valid_attachments) attachments.push_back(to_json(key));
  const Daemon daemon(context.config.socket, context.stop_fd);
  const auto answer = daemon.post(
      "/v1/cni/gc", {{"network", context.config.name}, {"attachments", attachments}}, kAddPatience);
  if (!answer) return tl::unexpected(answer.error().failure);
  SLUICE_FAULT_POINT("cni.gc.answered");
  return "";
}

// Runtimes make a node NotReady for which this fails. Kubernetes then takes its pods out of all Services and
// evicts them after five minutes. So a daemon that is away is no failure while the rules of the pods are in
// force without it: that new pods must wait is told by each ADD.
Outcome<std::string> status(const Context& context) {
  const Daemon daemon(context.config.socket, context.stop_fd);
  const auto answer = daemon.get("/v1/cni/status", kStatusPatience);
  if (answer) return "";
  const auto& [kind, failure] = answer.error();
  if (kind == Refusal::Kind::kRefused) return tl::unexpected(failure);
  if (rules_in_force(context.config.bpffs)) return "";
  return fail(server::kCniPluginNotAvailable, failure.msg, failure.details);
}

}  // namespace sluice::cni
