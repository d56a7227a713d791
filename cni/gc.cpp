// SPDX-License-Identifier: Apache-2.0
// The commands about the network as a whole: GC and STATUS.
#include <fmt/format.h>

#include "cni/commands.h"
#include "cni/daemon.h"
#include "cni/pod_network.h"
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
  const auto released = answer->find("released");
  if (released == answer->end() || !released->is_array())
    return fail(server::kCniInternal, "sluiced gave an answer that sluice-cni cannot use",
                "GC: 'released' is not a list; sluice-cni and sluiced may be of different versions");

  auto host = NetlinkSocket::make();
  if (!host) return fail(server::kCniInternal, "no netlink", host.error());
  // One that cannot be deleted must not keep the others (CNI spec 1.1, "GC").
  std::string errors;
  for (const auto& each : *released) {
    const auto name = text_of(each, "hostIfname");
    if (!is_host_ifname(name))
      continue;  // the daemon may not have known it; no other interface is ours to delete
    if (auto deleted = delete_if_there(*host, name); !deleted)
      errors += (errors.empty() ? "" : "; ") + deleted.error().message;
  }
  if (!errors.empty())
    return fail(server::kCniInternal, "interfaces of stale attachments cannot be deleted", errors);
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
