// SPDX-License-Identifier: Apache-2.0
// The `loopback` plugin, which container runtimes call for every pod beside the network's own and expect to
// find on the node: the same binary under that name. It brings the namespace's lo up; its addresses are the
// kernel's doing.
#include <unistd.h>

#include <vector>

#include "cni/commands.h"
#include "cni/netns.h"
#include "cni/result_json.h"
#include "common/netlink.h"
#include "daemon/server/api.h"

namespace sluice::cni {

namespace {

Outcome<NetlinkSocket> enter(const std::string& path) {
  const auto refuse = [](const Error& error) { return fail(server::kCniIoFailure, error.message); };
  const auto netns = NetworkNamespace::open(path);
  if (!netns) return refuse(netns.error());
  if (auto entered = netns->enter(); !entered) return refuse(entered.error());
  auto socket = NetlinkSocket::make();
  if (!socket) return refuse(socket.error());
  return std::move(*socket);
}

Outcome<void> set_up(NetlinkSocket& pod, bool up) {
  LinkChange change;
  change.up = up;
  if (auto done = pod.change_link(kLoopbackIndex, change); !done)
    return fail(server::kCniInternal, up ? "lo cannot be brought up" : "lo cannot be taken down",
                done.error());
  return {};
}

Outcome<std::string> add_loopback(const Context& context) {
  auto pod = enter(context.environment.netns);
  if (!pod) return tl::unexpected(pod.error());
  if (auto up = set_up(*pod, true); !up) return tl::unexpected(up.error());
  auto addresses = pod->addresses();
  if (!addresses) return fail(server::kCniInternal, "the addresses of lo cannot be read", addresses.error());
  std::erase_if(*addresses, [](const LinkAddress& each) { return each.index != kLoopbackIndex; });
  return loopback_result(context.config, context.environment, *addresses);
}

Outcome<std::string> delete_loopback(const Context& context) {
  // A namespace that is gone took its lo along.
  if (context.environment.netns.empty() || access(context.environment.netns.c_str(), F_OK) != 0) return "";
  auto pod = enter(context.environment.netns);
  if (!pod) return tl::unexpected(pod.error());
  if (auto down = set_up(*pod, false); !down) return tl::unexpected(down.error());
  return "";
}

Outcome<std::string> check_loopback(const Context& context) {
  auto pod = enter(context.environment.netns);
  if (!pod) return tl::unexpected(pod.error());
  const auto link = pod->link(kLoopbackIndex);
  if (!link) return fail(server::kCniCheckFailed, "lo cannot be read", link.error());
  if (!link->up) return fail(server::kCniCheckFailed, "lo is down");
  return "";
}

}  // namespace

Outcome<std::string> loopback(const Context& context) {
  switch (context.environment.command) {
    case Command::kAdd:
      return add_loopback(context);
    case Command::kDel:
      return delete_loopback(context);
    case Command::kCheck:
      return check_loopback(context);
    case Command::kGc:
    case Command::kStatus:
    case Command::kVersion:
      break;
  }
  return "";  // it keeps nothing and depends on nothing
}

}  // namespace sluice::cni
