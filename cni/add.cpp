// SPDX-License-Identifier: Apache-2.0
// ADD: the veth pair, the daemon's word (address, datapath, live rules), then the pod's end. Each step that
// has been taken is undone unless all succeed.
#include <fmt/format.h>
#include <poll.h>

#include <cerrno>
#include <chrono>

#include "cni/commands.h"
#include "cni/daemon.h"
#include "cni/deletions.h"
#include "cni/netns.h"
#include "cni/pod_network.h"
#include "cni/result_json.h"
#include "common/fault_point.h"
#include "common/guard.h"
#include "common/host_link.h"
#include "daemon/server/api.h"

namespace sluice::cni {

namespace {

constexpr std::chrono::milliseconds kRetry{10};

tl::unexpected<Failure> exists(const AttachmentKey& key) {
  return fail(server::kCniAlreadyExists,
              fmt::format("{} of container {} is attached already", key.ifname, key.container_id),
              "DEL comes before another ADD of the same interface");
}

// An ADD that was killed has left the link behind, or a DEL is not quite done with it. It may go only if the
// daemon knows no such attachment: else this is a second ADD, and the link is in use. The daemon says so only
// when no link waits for its deletion any more.
Outcome<void> remove_leftover(const Context& context, NetlinkSocket& host, const std::string& name) {
  const auto& key = context.environment.key;
  const auto known =
      Daemon(context.config.socket, context.stop_fd).post("/v1/cni/check", to_json(key), kAddPatience);
  if (known) return exists(key);
  const auto& [kind, failure] = known.error();
  if (kind != Refusal::Kind::kRefused) return tl::unexpected(failure);
  if (failure.code == server::kCniCheckFailed) return exists(key);  // though damaged
  if (failure.code != server::kCniUnknownContainer) return tl::unexpected(failure);
  if (auto deleted = delete_if_there(host, name); !deleted)
    return fail(server::kCniInternal, fmt::format("{}, left by an earlier ADD, cannot be deleted", name),
                deleted.error());
  return {};
}

Outcome<void> create_link(const Context& context, NetlinkSocket& host, const NetworkNamespace& netns,
                          const std::string& name) {
  const auto& ifname = context.environment.key.ifname;
  auto made = host.add_veth(name, ifname, netns.fd());
  if (!made && made.error().code == EEXIST) {  // one end or the other
    if (auto removed = remove_leftover(context, host, name); !removed) return removed;
    made = host.add_veth(name, ifname, netns.fd());
  }
  if (made) return {};
  if (made.error().code == EEXIST)
    return fail(server::kCniAlreadyExists, fmt::format("the container has an interface {} already", ifname),
                fmt::format("in {}; another plugin made it, or an earlier one was not removed",
                            context.environment.netns));
  return fail(server::kCniInternal, "the pod's link cannot be made", made.error());
}

// Before the daemon is asked: it sees then that packets to the pod go through a queue.
Outcome<void> limit_ingress(const Context& context, NetlinkSocket& host, const std::string& name) {
  const auto& limit = context.config.bandwidth.ingress;
  if (!limit) return {};
  const auto link = host.link(name);
  const auto done = link ? host.limit_rate(link->index, *limit) : tl::unexpected(link.error());
  if (!done) return fail(server::kCniInternal, "what the pod receives cannot be limited", done.error());
  SLUICE_FAULT_POINT("cni.add.limit_set");
  return {};
}

nlohmann::json request_of(const Context& context, const std::string& name) {
  const auto& environment = context.environment;
  auto body = to_json(environment.key);
  body["netns"] = environment.netns;
  body["hostIfname"] = name;
  body["network"] = context.config.name;
  // A runtime beside Kubernetes (Podman) names its containers, too: without a namespace that is no pod of the
  // cluster's.
  const bool named_alone = environment.pod_namespace.empty() && !environment.pod_name.empty();
  const auto& ns = named_alone ? context.config.pod_namespace : environment.pod_namespace;
  body["podNamespace"] = ns;
  body["podName"] = ns.empty() ? "" : environment.pod_name;
  body["podUID"] = ns.empty() ? "" : environment.pod_uid;
  body["hostPorts"] = host_ports_json(context.config.host_ports);
  return body;
}

// Whether the pod's default route is by this interface.
Outcome<bool> configure_pod(const Context& context, const NetworkNamespace& netns,
                            const PodNetwork& network) {
  const auto failed = [](const Error& error) {
    return fail(server::kCniInternal, "the pod's interface cannot be configured", error);
  };
  if (auto entered = netns.enter(); !entered) return failed(entered.error());
  SLUICE_FAULT_POINT("cni.add.namespace_entered");
  auto pod = NetlinkSocket::make();
  if (!pod) return failed(pod.error());
  const auto done = configure(*pod, context.environment.key.ifname, network, context.config.bandwidth.egress);
  if (!done) return failed(done.error());
  return *done;
}

// Within that time.
bool stopped(int stop_fd, std::chrono::milliseconds time = {}) {
  pollfd fd{stop_fd, POLLIN, 0};
  return poll(&fd, 1, static_cast<int>(time.count())) > 0;
}

// From before anything is made until all is there, or undone, nobody takes Sluice off the node.
Outcome<Fd> hold_node(const Context& context) {
  const Deletions deletions(context.config.state_dir);
  const auto deadline = std::chrono::steady_clock::now() + kAddPatience.connect;
  while (true) {
    auto held = deletions.hold();
    if (held) return std::move(*held);
    if (held.error().code != ENOENT)
      return fail(server::kCniIoFailure, "Sluice's folder on this node cannot be held", held.error());
    if (std::chrono::steady_clock::now() >= deadline)
      return fail(server::kCniTryAgainLater,
                  "no sluiced has started on this node, or Sluice is being removed",
                  fmt::format("{}; sluiced makes it when it starts", held.error().message));
    if (stopped(context.stop_fd, kRetry)) return fail(server::kCniTryAgainLater, "interrupted by a signal");
  }
}

// The daemon may hold a queued DEL of the same attachment that it has not done yet; it must not hit the new
// one.
Outcome<void> finish_queued_release(const Context& context) {
  const Deletions deletions(context.config.state_dir);
  const auto& key = context.environment.key;
  if (!deletions.contains(key)) return {};
  const auto answer =
      Daemon(context.config.socket, context.stop_fd).post("/v1/cni/del", to_json(key), kAddPatience);
  if (!answer && answer.error().failure.code != server::kCniUnknownContainer)
    return tl::unexpected(answer.error().failure);
  SLUICE_FAULT_POINT("cni.add.queued_release_done");
  if (auto removed = deletions.remove(key); !removed)
    return fail(server::kCniIoFailure, "the queued release of an earlier attachment cannot be removed",
                removed.error());
  return {};
}

}  // namespace

Outcome<std::string> add(const Context& context) {
  const auto& key = context.environment.key;
  if (context.config.prev_result)
    return fail(server::kCniInvalidConfig, "'prevResult' is set, but Sluice makes the interface itself",
                "put the plugin of type sluice first in the list of plugins");
  const auto netns = NetworkNamespace::open(context.environment.netns);
  if (!netns) return fail(server::kCniInvalidEnvironment, "CNI_NETNS is not valid", netns.error());
  const auto held = hold_node(context);
  if (!held) return tl::unexpected(held.error());
  SLUICE_FAULT_POINT("cni.add.begun");
  if (auto finished = finish_queued_release(context); !finished) return tl::unexpected(finished.error());

  auto host = NetlinkSocket::make();
  if (!host) return fail(server::kCniInternal, "no netlink", host.error());
  const auto name = host_link_name(key.container_id, key.ifname);
  if (auto created = create_link(context, *host, *netns, name); !created)
    return tl::unexpected(created.error());
  SLUICE_FAULT_POINT("cni.add.link_made");
  bool daemon_holds = false;
  Guard undo([&] {
    if (auto deleted = delete_if_there(*host, name); !deleted)
      context.log << fmt::format("sluice-cni: {} stays behind: {}\n", name, deleted.error().message);
    SLUICE_FAULT_POINT("cni.undo.link_deleted");
    if (!daemon_holds) return;
    if (auto released = release(context); !released)
      context.log << fmt::format("sluice-cni: {}: {}\n", released.error().msg, released.error().details);
  });

  if (auto limited = limit_ingress(context, *host, name); !limited) return tl::unexpected(limited.error());
  const Daemon daemon(context.config.socket, context.stop_fd);
  const auto answer = daemon.post("/v1/cni/add", request_of(context, name), kAddPatience);
  SLUICE_FAULT_POINT("cni.add.answered");
  // Without an answer it may have done it all the same.
  daemon_holds = answer || answer.error().kind == Refusal::Kind::kNoAnswer;
  if (!answer) return tl::unexpected(answer.error().failure);
  const auto network = parse_pod_network(*answer);
  if (!network) return tl::unexpected(network.error());
  if (auto good = check_bursts(context.config.bandwidth, network->mtu); !good)
    return tl::unexpected(good.error());
  const auto configured = configure_pod(context, *netns, *network);
  if (!configured) return tl::unexpected(configured.error());
  if (stopped(context.stop_fd)) return fail(server::kCniTryAgainLater, "interrupted by a signal");
  undo.dismiss();
  return add_result(context.config.version, context.environment, *network, *configured);
}

}  // namespace sluice::cni
