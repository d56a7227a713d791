// SPDX-License-Identifier: Apache-2.0
// The daemon's half of the CNI commands (CNI specification 1.1, section 2).
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "common/fault_point.h"
#include "common/host_link.h"
#include "common/netlink.h"
#include "daemon/controller/cni_request.h"
#include "daemon/controller/controller.h"
#include "daemon/ipam/link_note.h"

namespace sluice::controller {

using nlohmann::json;
using server::Answer;
using server::cni_error;
using namespace std::chrono_literals;

namespace {

constexpr auto kPodKnownWithin = 5s;
constexpr auto kLinksGoneWithin = 5s;

}  // namespace

Answer Controller::cni_add(const json& body) {
  const auto held = mover_.hold();
  auto key = key_from(body);
  if (!key) return cni_error(server::kCniDecodeFailure, key.error().message);
  auto request = std::make_shared<PendingAdd>();
  auto& wanted = request->wanted;
  wanted.key = *key;
  wanted.netns = text(body, "netns");
  wanted.host_ifname = text(body, "hostIfname");
  wanted.network = text(body, "network");
  wanted.pod_namespace = text(body, "podNamespace");
  wanted.pod_name = text(body, "podName");
  wanted.pod_uid = text(body, "podUID");
  // A CNI binary of before host ports says nothing of them.
  auto host_ports = parse_host_ports(body.is_object() ? body.value("hostPorts", json()) : json());
  if (!host_ports)
    return cni_error(server::kCniDecodeFailure, "the request's hostPorts: " + host_ports.error().message);
  wanted.host_ports = std::move(*host_ports);
  if (wanted.host_ifname.empty())
    return cni_error(server::kCniDecodeFailure,
                     "the request names no host interface: hostIfname must be a string");
  if (wanted.pod_namespace.empty() != wanted.pod_name.empty())
    return cni_error(server::kCniInvalidEnvironment, "K8S_POD_NAMESPACE and K8S_POD_NAME must come together");
  request->deadline = Clock::now() + kPodKnownWithin;
  remover_.pause();
  auto future = request->answer.get_future();

  const auto queue = [&] {
    request->policies_told = intake_.last_of(wanted.pod_namespace);
    adds_.push_back(request);
    return Answer{};
  };
  // Not known, or known under another UID: ask the API server now instead of waiting for the watch.
  auto queued = on_thread([&] {
    const auto* pod = state_.pod(wanted.pod_namespace, wanted.pod_name);
    const bool known = pod != nullptr && pod->has_uid(wanted.pod_uid);
    return known || wanted.pod_name.empty() || !lookup_ ? queue() : Answer{404, {}};
  });
  if (queued.http == 404) {
    auto asked = lookup_(wanted.pod_namespace, wanted.pod_name);
    queued = on_thread([&] {
      if (asked && *asked) state_.apply(std::move(**asked));
      return queue();
    });
  }
  if (queued.http != 200) return queued;
  return future.get();
}

void Controller::progress_adds() {
  for (auto i = adds_.begin(); i != adds_.end();) {
    const auto request = *i;
    const auto& wanted = request->wanted;
    const bool late = Clock::now() >= request->deadline;
    const auto* pod = wanted.pod_name.empty() ? nullptr : state_.pod(wanted.pod_namespace, wanted.pod_name);
    // A pod is its UID: that of the same name may be the one before it.
    const bool certain = pod != nullptr && pod->has_uid(wanted.pod_uid);
    std::string missing;
    if (!state_.synced() || !node_config_ || node_config_->pod_cidrs.empty())
      missing = not_ready();
    else if (!wanted.pod_name.empty() && !certain)
      missing = "Pod " + wanted.pod_namespace + "/" + wanted.pod_name +
                (wanted.pod_uid.empty() ? "" : " with UID " + wanted.pod_uid) + " is not known yet" +
                (pod == nullptr ? "" : " (an object of that name has UID " + pod->uid + ")") +
                ", so neither are its rules; the runtime tries again. Is the API server reachable? With a "
                "YAML folder: is there a Pod object with that UID, or without one?";
    else if (intake_.waits(wanted.pod_namespace, request->policies_told))
      missing = "NetworkPolicies of namespace " + wanted.pod_namespace + " are not in force yet";
    else if (!wanted.host_ports.empty() && !state_.services_synced())
      missing = "not all Services are known yet, so neither is whether the pod's host ports are free";
    else if (!late && !retired_.empty() && !ipam_.next_free()) {
      missing = "no address is free until the links of deleted pods are gone";
      remover_.hurry();
    }
    if (!missing.empty() && !late) {
      ++i;
      continue;
    }
    i = adds_.erase(i);
    if (!missing.empty()) {
      request->answer.set_value(cni_error(server::kCniTryAgainLater, missing));
      continue;
    }
    if (auto added = attach(request)) added_.push_back(std::move(*added));
  }
  // The state has new endpoints now; their rules go live in the same turn.
  for (auto& reason : state_.take_changes()) reasons_.push_back(std::move(reason));
  if (!reasons_.empty()) policy_dirty_ = true;
  if (!added_.empty()) retry_at_ = Clock::now();
}

Result<Controller::Added> Controller::attach(const std::shared_ptr<PendingAdd>& request) {
  const auto fail = [&](int code, const Error& error) {
    request->answer.set_value(cni_error(code, error.message));
    return tl::unexpected(error);
  };
  const auto& key = request->wanted.key;
  SLUICE_FAULT_POINT("add.received");
  if (ipam_.find(key))
    return fail(server::kCniAlreadyExists,
                Error{"container " + key.container_id + " is attached already by interface " + key.ifname +
                          "; DEL must come before another ADD",
                      0});
  if (auto free = host_ports_free(request->wanted); !free)
    return fail(server::kCniHostPortTaken, free.error());
  auto netlink = NetlinkSocket::make();
  if (!netlink) return fail(server::kCniInternal, netlink.error());
  auto link = netlink->link(request->wanted.host_ifname);
  if (!link) return fail(server::kCniInternal, link.error());
  request->wanted.host_ifindex = static_cast<std::uint32_t>(link->index);
  if (const auto* pod = state_.pod(request->wanted.pod_namespace, request->wanted.pod_name))
    request->wanted.last_pod = std::make_shared<const model::Pod>(*pod);
  if (auto free = ipam_.next_free(); !free) return fail(server::kCniNoAddress, free.error());
  auto attachment = ipam_.allocate(request->wanted);
  if (!attachment)
    return fail(attachment.error().code == EEXIST ? server::kCniAlreadyExists : server::kCniIoFailure,
                attachment.error());
  SLUICE_FAULT_POINT("add.address_allocated");
  note_on_link(*netlink, *attachment, ipam::note_of(*attachment));
  if (auto done = datapath_->attach(endpoint_of(*attachment), node_config_->pod_mtu); !done) {
    note_on_link(*netlink, *attachment, "");
    if (auto released = ipam_.release(key); !released) spdlog::error("{}", released.error().message);
    return fail(server::kCniInternal, done.error());
  }
  SLUICE_FAULT_POINT("add.endpoint_attached");
  state_.attach(attachment->endpoint, sandbox_of(*attachment));
  if (!attachment->host_ports.empty()) {
    services_retry_at_ = Clock::now();
    reconcile_services();
    SLUICE_FAULT_POINT("add.host_ports_live");
    if (services_dirty_) {
      if (auto done = forget(key); !done) spdlog::error("{}", done.error().message);
      return fail(server::kCniTryAgainLater, Error{"the pod's host ports could not be made live", 0});
    }
  }
  return Added{request, *attachment, link->mac};
}

Result<void> Controller::host_ports_free(const ipam::Attachment& wanted) const {
  for (const auto& [key, other] : ipam_.attachments())
    for (const auto& theirs : other.host_ports)
      for (const auto& ours : wanted.host_ports)
        if (ours.collides_with(theirs))
          return failure(
              "host port {} is held by {} (container {}): DEL of that one must come first, or GC",
              ours.to_string(),
              other.pod_name.empty() ? "an attachment" : other.pod_namespace + "/" + other.pod_name,
              key.container_id);
  return {};
}

void Controller::finish_adds(const Result<datapath::Applied>& applied) {
  for (auto& added : std::exchange(added_, {})) {
    if (applied) {
      SLUICE_FAULT_POINT("add.rules_live");
      added.request->answer.set_value(attachment_answer(added.attachment, added.host_mac));
      remover_.pause();
      SLUICE_FAULT_POINT("add.answered");
      const std::lock_guard lock(mutex_);
      ++adds_total_;
      continue;
    }
    if (auto done = forget(added.attachment.key); !done) spdlog::error("{}", done.error().message);
    added.request->answer.set_value(cni_error(
        server::kCniTryAgainLater, "the pod's rules could not be made live: " + applied.error().message));
  }
}

datapath::Endpoint Controller::endpoint_of(const ipam::Attachment& attachment) const {
  // Of a pod that is not known another plugin may need the ingress.
  const auto* pod = attachment.last_pod.get();
  return {attachment.endpoint, attachment.host_ifname,       attachment.host_ifindex,
          attachment.ipv4,     Mac::of_pod(attachment.ipv4), pod == nullptr || pod->egress_limited,
          keeps_source(pod)};
}

bool Controller::keeps_source(const model::Pod* pod) const {
  const bool asked = options_.masquerade_annotation && pod != nullptr;
  return !(asked ? pod->masquerade.value_or(options_.masquerade) : options_.masquerade);
}

Answer Controller::attachment_answer(const ipam::Attachment& attachment, const Mac& host_mac) const {
  const auto& cidrs = node_config_->pod_cidrs;
  const auto now = std::ranges::find_if(cidrs, [&](const Prefix& p) { return p.contains(attachment.ipv4); });
  // A pod of another podCIDR that the node had before keeps its segment and its gateway. If the record does
  // not tell them, the pod is a segment of its own.
  const auto segment =
      attachment.pod_cidr.value_or(now != cidrs.end() ? *now : Prefix::host(attachment.ipv4));
  const auto& base = segment.length() < 32 ? segment : cidrs.front();
  return {200,
          {{"address", attachment.ipv4.to_string() + "/" + std::to_string(segment.length())},
           {"gateway", datapath::gateway_in(base).to_string()},
           {"mac", Mac::of_pod(attachment.ipv4).to_string()},
           {"mtu", node_config_->pod_mtu},
           {"hostIfname", attachment.host_ifname},
           {"hostMac", host_mac.to_string()}}};
}

// At once dead, without waiting for anything; what takes time happens on the side. The order counts: a daemon
// killed in between leaves a record without an endpoint, or a link without either, and the next removes both.
Result<void> Controller::forget(const ipam::AttachmentKey& key) {
  const auto attachment = ipam_.find(key);
  if (!attachment) return forget_unrecorded(key);
  SLUICE_FAULT_POINT("del.begun");
  if (auto done = take_down(endpoint_of(*attachment)); !done) return done;
  SLUICE_FAILURE_POINT("del.endpoint_detached");
  // Else a daemon that starts now would take the link for one whose record is lost.
  if (auto netlink = NetlinkSocket::make()) note_on_link(*netlink, *attachment, "");
  if (auto done = ipam_.release(key); !done) return done;
  SLUICE_FAULT_POINT("del.released");
  // At once: the next pod may have the port. What fails here is done later; it leads nowhere any more.
  if (!attachment->host_ports.empty()) reconcile_services();
  return {};
}

// What a damaged record of it may hold, and the link of an ADD that never came to the daemon.
Result<void> Controller::forget_unrecorded(const ipam::AttachmentKey& key) {
  const auto name = host_link_name(key.container_id, key.ifname);
  const auto unclaimed = std::find_if(unclaimed_.begin(), unclaimed_.end(),
                                      [&](const datapath::Endpoint& e) { return e.ifname == name; });
  if (unclaimed != unclaimed_.end()) {
    if (auto done = take_down(*unclaimed); !done) return done;
    unclaimed_.erase(unclaimed);
    return ipam_.release(key);
  }
  auto netlink = NetlinkSocket::make();
  const auto link = netlink ? netlink->link(name) : tl::unexpected(netlink.error());
  if (link)
    remover_.remove({name, static_cast<std::uint32_t>(link->index)});
  else if (link.error().code != ENODEV)
    return tl::unexpected(link.error());
  return ipam_.release(key);
}

Result<void> Controller::take_down(const datapath::Endpoint& endpoint) {
  if (auto done = datapath_->detach(endpoint.id); !done) return done;
  state_.detach(endpoint.id);
  policy_dirty_ = true;
  retire(endpoint);
  return {};
}

void Controller::retire(const datapath::Endpoint& endpoint) {
  ipam_.hold(endpoint.id, endpoint.ipv4);
  retired_.insert_or_assign(endpoint.ifindex, endpoint);
  remover_.remove({endpoint.ifname, endpoint.ifindex});
}

void Controller::finish_removals() {
  std::vector<std::uint32_t> gone;
  {
    const std::lock_guard lock(mutex_);
    gone.swap(gone_);
  }
  for (const auto ifindex : gone) {
    if (auto done = datapath_->interface_gone(ifindex); !done) spdlog::error("{}", done.error().message);
    const auto retired = retired_.extract(ifindex);
    if (retired) ipam_.unhold(retired.mapped().id, retired.mapped().ipv4);
    SLUICE_FAULT_POINT("removal.finished");
  }
}

Answer Controller::cni_del(const json& body) {
  const auto held = mover_.hold();
  auto key = key_from(body);
  if (!key) return cni_error(server::kCniDecodeFailure, key.error().message);
  return on_thread([this, key = *key]() -> Answer {
    // An ADD of the same attachment that still waits is not to come after its DEL.
    adds_.remove_if([&](const auto& add) {
      if (add->wanted.key != key) return false;
      add->answer.set_value(cni_error(server::kCniTryAgainLater, "DEL came before ADD was done"));
      return true;
    });
    if (auto done = forget(key); !done) return cni_error(server::kCniInternal, done.error().message);
    const std::lock_guard lock(mutex_);
    ++dels_total_;
    return {};
  });
}

Answer Controller::cni_check(const json& body) {
  auto key = key_from(body);
  if (!key) return cni_error(server::kCniDecodeFailure, key.error().message);
  auto answer = on_thread([this, key = *key]() -> Answer {
    const auto attachment = ipam_.find(key);
    if (!attachment)
      return cni_error(server::kCniUnknownContainer,
                       "container " + key.container_id + " has no attachment by interface " + key.ifname);
    if (auto good = datapath_->verify(endpoint_of(*attachment)); !good)
      return cni_error(server::kCniCheckFailed, good.error().message);
    if (!node_config_ || node_config_->pod_cidrs.empty())
      return cni_error(server::kCniTryAgainLater, not_ready());
    auto netlink = NetlinkSocket::make();
    auto link = netlink ? netlink->link(attachment->host_ifname) : tl::unexpected(netlink.error());
    if (!link) return cni_error(server::kCniInternal, link.error().message);
    return attachment_answer(*attachment, link->mac);
  });
  // Who hears that there is none, as an ADD that finds its interface in place, may rely on its link being
  // gone.
  if (answer.http != 200) remover_.wait(kLinksGoneWithin);
  return answer;
}

// Runtimes make a node NotReady for which this fails: Kubernetes takes its pods out of all Services and
// evicts them after five minutes. So it asks whether pods live by rules here, this daemon's or those of the
// one before it. Why new pods cannot come, for want of an address, of room on a disk, or of an API server, is
// told by each ADD.
Answer Controller::cni_status() {
  const std::lock_guard lock(mutex_);
  if (rules_in_force_) return {};
  if (pods_cut_off_)
    return cni_error(
        server::kCniPluginNotAvailableLimited,
        "sluiced cannot attach pods yet, and those that are attached have no rules and are closed: " +
            not_ready_);
  return cni_error(server::kCniPluginNotAvailable, "sluiced cannot attach pods yet: " + not_ready_);
}

}  // namespace sluice::controller
