// SPDX-License-Identifier: Apache-2.0
// DEL, and giving back what an ADD that fails had from the daemon.
#include <fmt/format.h>

#include "cni/commands.h"
#include "cni/daemon.h"
#include "cni/deletions.h"
#include "cni/pod_network.h"
#include "daemon/server/api.h"

namespace sluice::cni {

Outcome<void> release(const Context& context) {
  const auto& key = context.environment.key;
  // Not to be interrupted: it is what an interrupted ADD has to do.
  const Daemon daemon(context.config.socket, -1);
  const auto answer = daemon.post("/v1/cni/del", to_json(key), kDelPatience);
  if (answer) return {};
  const auto& [kind, failure] = answer.error();
  if (kind == Refusal::Kind::kRefused) {
    if (failure.code == server::kCniUnknownContainer) return {};
    return tl::unexpected(failure);
  }
  if (auto queued = Deletions(context.config.state_dir).add(key); !queued)
    return fail(server::kCniIoFailure,
                fmt::format("sluiced cannot be told that {} of container {} is gone, and it cannot be queued",
                            key.ifname, key.container_id),
                fmt::format("{} ({}); {}", failure.msg, failure.details, queued.error().message));
  context.log << fmt::format("sluice-cni: {}; queued the release of {} of container {} for its next start\n",
                             failure.msg, key.ifname, key.container_id);
  return {};
}

Outcome<std::string> del(const Context& context) {
  // The link first: an interface without its program would be one without policy, and an address may be given
  // to the next pod as soon as the daemon has it back. The pod's end goes with the host's; if its namespace
  // is gone, both are.
  const auto name = host_ifname(context.environment.key);
  auto host = NetlinkSocket::make();
  const auto deleted = host ? delete_if_there(*host, name) : Result<void>(tl::unexpected(host.error()));
  if (!deleted) return fail(server::kCniInternal, fmt::format("{} cannot be deleted", name), deleted.error());
  if (const auto released = release(context); !released) return tl::unexpected(released.error());
  return "";
}

}  // namespace sluice::cni
