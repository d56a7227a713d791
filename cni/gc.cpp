// SPDX-License-Identifier: Apache-2.0
// The commands about the network as a whole: GC and STATUS.
#include "cni/commands.h"
#include "cni/daemon.h"
#include "common/fault_point.h"
#include "daemon/server/api.h"

namespace sluice::cni {

using nlohmann::json;

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

Outcome<std::string> status(const Context& context) {
  const Daemon daemon(context.config.socket, context.stop_fd);
  const auto answer = daemon.get("/v1/cni/status", kStatusPatience);
  if (answer) return "";
  const auto& [kind, failure] = answer.error();
  const int code = kind == Refusal::Kind::kRefused ? failure.code : int{server::kCniPluginNotAvailable};
  return fail(code, failure.msg, failure.details);
}

}  // namespace sluice::cni
