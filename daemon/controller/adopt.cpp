// SPDX-License-Identifier: Apache-2.0
// What a daemon finds when it starts: pinned endpoints, records of attachments, interfaces. Endpoints with
// both are taken over as they are; what an interrupted ADD left is removed; a damaged record costs its pod
// nothing.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "common/fault_point.h"
#include "common/host_link.h"
#include "common/netlink.h"
#include "daemon/controller/controller.h"
#include "daemon/ipam/link_note.h"

namespace sluice::controller {

using namespace std::chrono_literals;

namespace {
// From making the link to asking the daemon, CNI ADD waits 5 s at most.
constexpr auto kAddAsksWithin = 30s;
}  // namespace

Result<void> Controller::adopt() {
  for (const auto& damaged : ipam_.damaged()) spdlog::error("{}", damaged);
  restore_records();
  if (auto made = make_deletions_folder(); !made) spdlog::error("{}", made.error().message);
  auto pinned = datapath_->endpoints();
  if (!pinned) return tl::unexpected(pinned.error());

  std::vector<ipam::Attachment> unpinned;
  for (const auto& [key, attachment] : ipam_.attachments()) {
    const auto endpoint = std::find_if(pinned->begin(), pinned->end(), [&](const datapath::Endpoint& e) {
      return e.id == attachment.endpoint && e.ipv4 == attachment.ipv4;
    });
    if (endpoint == pinned->end())
      unpinned.push_back(attachment);
    else
      state_.attach(attachment.endpoint, sandbox_of(attachment));
  }
  for (const auto& attachment : unpinned) heal_attachment(attachment);
  // A damaged record of an endpoint that is no more holds nothing.
  const auto damaged = ipam_.damaged_records();
  for (const auto& record : damaged) {
    const bool held = std::any_of(pinned->begin(), pinned->end(), [&](const datapath::Endpoint& e) {
      return e.id == record.endpoint && e.ipv4 == record.ipv4;
    });
    if (!held) ipam_.unhold(record.endpoint, record.ipv4);
  }
  for (const auto& endpoint : *pinned)
    if (!state_.cluster().endpoints.contains(endpoint.id)) adopt_endpoint(endpoint);
  spdlog::info("adopted {} endpoints", state_.cluster().endpoints.size());
  return {};
}

// Records that are lost, from what the links say; and links of before they said anything are told.
void Controller::restore_records() {
  auto netlink = NetlinkSocket::make();
  const auto links = netlink ? netlink->links() : tl::unexpected(netlink.error());
  if (!links) return spdlog::error("{}", links.error().message);
  for (const auto& link : *links) {
    if (!is_host_link_name(link.name) || link.kind != "veth") continue;
    const auto noted = ipam::read_note(link);
    if (!noted || ipam_.find(noted->attachment.key)) continue;
    const auto& attachment = noted->attachment;
    if (!noted->pod_known) {
      spdlog::error(
          "{} ({}) of container {} has no record, and which pod it is has no room in its alias: it stays as "
          "it is, closed to what its endpoint does not admit; delete the pod",
          link.name, attachment.ipv4.to_string(), attachment.key.container_id);
      ipam_.hold(attachment.endpoint, attachment.ipv4);
      continue;
    }
    if (auto done = ipam_.restore(attachment); !done) {
      spdlog::error("{} of container {} has no record, and none can be written ({}): delete its pod",
                    link.name, attachment.key.container_id, done.error().message);
      continue;
    }
    SLUICE_FAULT_POINT("adopt.record_written_again");
    spdlog::warn(
        "the record of container {} ({}) was gone from the run folder; it is written again by what {} says. "
        "Is --run-dir the folder of the daemon before?",
        attachment.key.container_id, attachment.ipv4.to_string(), link.name);
    if (noted->host_ports > 0)
      spdlog::error("{} host ports of {}/{} are lost with it, and not served: delete the pod",
                    noted->host_ports, attachment.pod_namespace, attachment.pod_name);
  }
  for (const auto& [key, attachment] : ipam_.attachments())
    for (const auto& link : *links)
      if (static_cast<std::uint32_t>(link.index) == attachment.host_ifindex &&
          link.name == attachment.host_ifname && !ipam::has_note(link))
        note_on_link(*netlink, attachment, ipam::note_of(attachment));
}

void Controller::note_on_link(NetlinkSocket& netlink, const ipam::Attachment& attachment,
                              const std::string& note) {
  LinkChange change;
  change.alias = note;
  if (auto done = netlink.change_link(static_cast<int>(attachment.host_ifindex), change);
      !done && done.error().code != ENODEV)
    spdlog::warn("{} gets no alias: {}", attachment.host_ifname, done.error().message);
}

ClusterState::Sandbox Controller::sandbox_of(const ipam::Attachment& attachment) {
  return {attachment.pod_namespace, attachment.pod_name, attachment.pod_uid, attachment.ipv4,
          attachment.last_pod};
}

// What the rules of an attachment depend on is on disk too: the daemon after this one may find that the Pod
// object is gone while the sandbox lives.
void Controller::record_pods() {
  auto wanted = state_.take_pods_to_record();
  wanted.merge(not_recorded_);
  not_recorded_.clear();
  if (wanted.empty()) return;
  std::vector<ipam::Attachment> changed;
  for (const auto& [key, attachment] : ipam_.attachments())
    if (wanted.contains(attachment.endpoint)) changed.push_back(attachment);
  for (auto& attachment : changed) {
    attachment.last_pod = state_.last_known(attachment.endpoint);
    if (auto done = ipam_.update(attachment); !done) {
      spdlog::error("labels of {}/{}: {}; tried again in some seconds", attachment.pod_namespace,
                    attachment.pod_name, done.error().message);
      not_recorded_.insert(attachment.endpoint);
    }
  }
}

// A record without an endpoint: ADD was cut short after the record was written, or the pins are gone.
void Controller::heal_attachment(const ipam::Attachment& attachment) {
  auto netlink = NetlinkSocket::make();
  auto link = netlink ? netlink->link(attachment.host_ifname) : tl::unexpected(netlink.error());
  const bool same = link && static_cast<std::uint32_t>(link->index) == attachment.host_ifindex;
  if (same && link->up) {
    if (auto done = datapath_->attach(endpoint_of(attachment), link->mtu); !done)
      spdlog::error("endpoint of container {} has lost its programs and could not get them back: {}",
                    attachment.key.container_id, done.error().message);
    SLUICE_FAULT_POINT("adopt.attachment_healed");
    state_.attach(attachment.endpoint, sandbox_of(attachment));
    return;
  }
  spdlog::info("released {}: its ADD (container {}) was cut short", attachment.ipv4.to_string(),
               attachment.key.container_id);
  if (same) retire(endpoint_of(attachment));
  SLUICE_FAULT_POINT("adopt.attachment_released");
  if (auto done = ipam_.release(attachment.key); !done) spdlog::error("{}", done.error().message);
}

// An endpoint whose record is damaged, or lost: it lives as long as its interface does.
void Controller::adopt_endpoint(const datapath::Endpoint& endpoint) {
  ipam_.hold(endpoint.id, endpoint.ipv4);
  unclaimed_.push_back(endpoint);
}

// An attachment without its link: the pod's namespace went without DEL (its sandbox failed half-way, the
// runtime lost its state), and its address must not wait for a DEL or GC that may never come. A link of ours
// without an attachment: its ADD was killed, or the daemon was before it had deleted the link.
void Controller::reconcile_links() {
  auto netlink = NetlinkSocket::make();
  auto links = netlink ? netlink->links() : tl::unexpected(netlink.error());
  if (!links) return spdlog::error("{}", links.error().message);
  std::set<std::uint32_t> present;
  for (const auto& link : *links) present.insert(static_cast<std::uint32_t>(link.index));
  std::vector<ipam::Attachment> gone;
  for (const auto& [key, attachment] : ipam_.attachments())
    if (!present.contains(attachment.host_ifindex)) gone.push_back(attachment);
  for (const auto& attachment : gone) {
    if (auto done = forget(attachment.key); !done) {
      spdlog::error("{}", done.error().message);
      continue;
    }
    SLUICE_FAULT_POINT("reclaim.released");
    spdlog::info("released {} of container {}: its interface {} is gone", attachment.ipv4.to_string(),
                 attachment.key.container_id, attachment.host_ifname);
  }
  remove_links_of_nobody(*links);
}

void Controller::remove_links_of_nobody(const std::vector<Link>& links) {
  std::set<std::uint32_t> known;
  for (const auto& [key, attachment] : ipam_.attachments()) known.insert(attachment.host_ifindex);
  for (const auto& endpoint : unclaimed_) known.insert(endpoint.ifindex);
  std::set<std::string> awaited;
  for (const auto& add : adds_) awaited.insert(add->wanted.host_ifname);
  const auto now = Clock::now();
  std::map<std::uint32_t, Clock::time_point> still;
  for (const auto& link : links) {
    const auto ifindex = static_cast<std::uint32_t>(link.index);
    if (!is_host_link_name(link.name) || link.kind != "veth" || known.contains(ifindex) ||
        awaited.contains(link.name) || remover_.removing(ifindex))
      continue;
    const auto seen = links_of_nobody_.find(ifindex);
    const auto since = seen == links_of_nobody_.end() ? now : seen->second;
    // It is the daemon that brings a link up; one that is down may belong to an ADD that is about to ask.
    if (!link.up && now - since < kAddAsksWithin) {
      still.emplace(ifindex, since);
      continue;
    }
    // Its record is lost, and could not be written again: a pod may run behind it.
    if (ipam::has_note(link)) continue;
    spdlog::info("deleting {}: no attachment has it", link.name);
    remover_.remove({link.name, ifindex});
  }
  links_of_nobody_ = std::move(still);
}

// Endpoints whose record is damaged or lost: the pod is found again by its address, and the endpoint lives as
// long as its interface does.
void Controller::reconcile_damaged() {
  if (unclaimed_.empty() || !state_.synced()) return;
  auto netlink = NetlinkSocket::make();
  if (!netlink) return;
  std::erase_if(unclaimed_, [&](const datapath::Endpoint& endpoint) {
    auto link = netlink->link(static_cast<int>(endpoint.ifindex));
    if (!link && link.error().code == ENODEV) {
      auto done = take_down(endpoint);
      if (!done) spdlog::error("{}", done.error().message);
      return done.has_value();
    }
    if (state_.cluster().endpoints.contains(endpoint.id)) return false;
    const auto* pod = state_.pod_at(endpoint.ipv4, options_.node_name);
    if (pod == nullptr) {
      spdlog::error(
          "endpoint {} ({}) has no usable record and no Pod, or more than one, has its address: its packets "
          "are dropped; delete "
          "the pod",
          endpoint.id, endpoint.ipv4.to_string());
      return false;
    }
    spdlog::warn("endpoint {} ({}) has no usable record; by its address it is pod {}/{}", endpoint.id,
                 endpoint.ipv4.to_string(), pod->ns, pod->name);
    state_.attach(endpoint.id, {pod->ns, pod->name, pod->uid, endpoint.ipv4, nullptr});
    policy_dirty_ = true;
    return false;
  });
}

}  // namespace sluice::controller
