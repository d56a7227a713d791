// SPDX-License-Identifier: Apache-2.0
// DEL, and giving back what an ADD that fails had from the daemon.
#include <fmt/format.h>

#include <cerrno>

#include "cni/commands.h"
#include "cni/daemon.h"
#include "cni/deletions.h"
#include "cni/pod_network.h"
#include "common/fault_point.h"
#include "common/host_link.h"
#include "daemon/server/api.h"

namespace sluice::cni {

namespace {

// Gone once the daemon starts, if it cannot be told.
Outcome<void> settle(const Context& context, const Refusal& refusal) {
  const auto& key = context.environment.key;
  const auto& [kind, failure] = refusal;
  if (kind == Refusal::Kind::kRefused) {
    if (failure.code == server::kCniUnknownContainer) return {};
    return tl::unexpected(failure);
  }
  const auto queued = Deletions(context.config.state_dir).add(key);
  // The link is gone, by which a daemon that finds a record of it gives the address back.
  if (!queued && queued.error().code == ENOENT) {
    context.log << fmt::format("sluice-cni: {}; nothing is queued, since there is no folder for it: {}\n",
                               failure.msg, queued.error().message);
    return {};
  }
  if (!queued)
    return fail(server::kCniIoFailure,
                fmt::format("sluiced cannot be told that {} of container {} is gone, and it cannot be queued",
                            key.ifname, key.container_id),
                fmt::format("{} ({}); {}", failure.msg, failure.details, queued.error().message));
  context.log << fmt::format("sluice-cni: {}; queued the release of {} of container {} for its next start\n",
                             failure.msg, key.ifname, key.container_id);
  return {};
}

tl::expected<nlohmann::json, Refusal> ask(const Context& context) {
  // Not to be interrupted: it is what an interrupted ADD has to do.
  return Daemon(context.config.socket, -1)
      .post("/v1/cni/del", to_json(context.environment.key), kDelPatience);
}

}  // namespace

Outcome<void> release(const Context& context) {
  const auto answer = ask(context);
  return answer ? Outcome<void>() : settle(context, answer.error());
}

Outcome<std::string> del(const Context& context) {
  // The daemon makes the attachment dead before it answers, and deletes the link, which takes longer, itself.
  SLUICE_FAULT_POINT("cni.del.begun");
  const auto answer = ask(context);
  SLUICE_FAULT_POINT("cni.del.answered");
  if (answer) return "";
  // The link first: an address may be given to the next pod as soon as the daemon has it back. The pod's end
  // goes with the host's; if its namespace is gone, both are.
  const auto& key = context.environment.key;
  const auto name = host_link_name(key.container_id, key.ifname);
  auto host = NetlinkSocket::make();
  const auto deleted = host ? delete_if_there(*host, name) : Result<void>(tl::unexpected(host.error()));
  if (!deleted) return fail(server::kCniInternal, fmt::format("{} cannot be deleted", name), deleted.error());
  SLUICE_FAULT_POINT("cni.del.link_deleted");
  if (const auto settled = settle(context, answer.error()); !settled) return tl::unexpected(settled.error());
  return "";
}

}  // namespace sluice::cni
