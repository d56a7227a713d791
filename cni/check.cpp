// SPDX-License-Identifier: Apache-2.0
// CHECK: the daemon verifies its side; then its answer, the result of ADD (prevResult) and the pod's
// namespace must agree. Plugins later in the chain may have changed routes, and that prevResult shows.
#include <fmt/format.h>

#include <algorithm>

#include "cni/commands.h"
#include "cni/daemon.h"
#include "cni/netns.h"
#include "cni/pod_network.h"
#include "daemon/server/api.h"

namespace sluice::cni {

using nlohmann::json;

namespace {

// The member if it is a list, else an empty one.
const json& list_of(const json& object, const char* key) {
  static const json none = json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : none;
}

template <typename Predicate>
bool any_of(const json& list, const Predicate& predicate) {
  return std::any_of(list.begin(), list.end(), predicate);
}

Result<void> compare(const json& previous, const Environment& environment, const PodNetwork& network) {
  const auto& ifname = environment.key.ifname;
  // The path of the namespace may be written otherwise now; that it is inside of one is what counts.
  if (!any_of(list_of(previous, "interfaces"), [&](const json& each) {
        return text_of(each, "name") == ifname && !text_of(each, "sandbox").empty();
      }))
    return failure("prevResult has no interface {} in a sandbox", ifname);
  if (!any_of(list_of(previous, "interfaces"), [&](const json& each) {
        return text_of(each, "name") == network.host_ifname && text_of(each, "sandbox").empty();
      }))
    return failure("prevResult has no interface {} of the host", network.host_ifname);
  if (!any_of(list_of(previous, "ips"),
              [&](const json& each) { return text_of(each, "address") == network.cidr(); }))
    return failure("sluiced has {} for {}, which prevResult does not have", network.cidr(), ifname);
  return {};
}

bool has_default_route(const json& previous, const PodNetwork& network) {
  return any_of(list_of(previous, "routes"), [&](const json& each) {
    const auto gateway = text_of(each, "gw");
    return text_of(each, "dst") == "0.0.0.0/0" && (gateway.empty() || gateway == network.gateway.to_string());
  });
}

Result<void> verify_host(const PodNetwork& network, const Bandwidth& bandwidth) {
  auto host = NetlinkSocket::make();
  if (!host) return tl::unexpected(host.error());
  return verify_limit(*host, network.host_ifname, bandwidth.ingress);
}

Result<void> verify_pod(const NetworkNamespace& netns, const Context& context, const PodNetwork& network) {
  const auto& ifname = context.environment.key.ifname;
  if (auto entered = netns.enter(); !entered) return entered;
  auto pod = NetlinkSocket::make();
  if (!pod) return tl::unexpected(pod.error());
  const bool with_route = has_default_route(*context.config.prev_result, network);
  if (auto good = verify(*pod, ifname, network, with_route); !good) return good;
  return verify_limit(*pod, ifname, context.config.bandwidth.egress);
}

}  // namespace

Outcome<std::string> check(const Context& context) {
  const auto& [environment, config, log, stop_fd] = context;
  if (!config.prev_result)
    return fail(server::kCniInvalidConfig, "CHECK needs 'prevResult', the result of ADD");
  const auto netns = NetworkNamespace::open(environment.netns);
  if (!netns) return fail(server::kCniInvalidEnvironment, "CNI_NETNS is not valid", netns.error());

  const Daemon daemon(config.socket, stop_fd);
  const auto answer = daemon.post("/v1/cni/check", to_json(environment.key), kAddPatience);
  if (!answer) return tl::unexpected(answer.error().failure);
  const auto network = parse_pod_network(*answer);
  if (!network) return tl::unexpected(network.error());

  auto same = compare(*config.prev_result, environment, *network);
  if (same) same = verify_host(*network, config.bandwidth);
  if (same) same = verify_pod(*netns, context, *network);
  if (!same)
    return fail(server::kCniCheckFailed,
                fmt::format("{} of container {} is not as ADD left it", environment.key.ifname,
                            environment.key.container_id),
                same.error());
  return "";
}

}  // namespace sluice::cni
