// SPDX-License-Identifier: Apache-2.0
// The `loopback` plugin, which container runtimes call for every pod beside the network's own and expect to
// find on the node: the same binary under that name. It brings the namespace's lo up; the rest is the
// kernel's doing.
#include "cni/commands.h"
#include "cni/netns.h"
#include "cni/result_json.h"
#include "common/netlink.h"
#include "daemon/server/api.h"

namespace sluice::cni {

namespace {

constexpr int kLoopbackIndex = 1;  // in every network namespace

Result<NetlinkSocket> enter(const std::string& path) {
  const auto netns = NetworkNamespace::open(path);
  if (!netns) return tl::unexpected(netns.error());
  if (auto entered = netns->enter(); !entered) return tl::unexpected(entered.error());
  return NetlinkSocket::make();
}

}  // namespace

Outcome<std::string> loopback(const Context& context) {
  const auto command = context.environment.command;
  // lo goes with its namespace.
  if (command != Command::kAdd && command != Command::kCheck) return "";
  auto pod = enter(context.environment.netns);
  if (!pod) return fail(server::kCniIoFailure, pod.error().message);

  if (command == Command::kCheck) {
    const auto link = pod->link(kLoopbackIndex);
    if (link && link->up) return "";
    return fail(server::kCniCheckFailed, link ? "lo is down" : link.error().message);
  }
  LinkChange up;
  up.up = true;
  if (auto done = pod->change_link(kLoopbackIndex, up); !done)
    return fail(server::kCniInternal, "lo cannot be brought up", done.error().message);
  return loopback_result(context.config, context.environment);
}

}  // namespace sluice::cni
