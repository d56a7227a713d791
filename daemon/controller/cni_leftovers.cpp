// SPDX-License-Identifier: Apache-2.0
// What runtimes did not give back in time: GC (CNI specification 1.1, section 2), and DELs that came while no
// daemon ran.
#include <spdlog/spdlog.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "common/fault_point.h"
#include "daemon/controller/cni_request.h"
#include "daemon/controller/controller.h"

namespace sluice::controller {

using nlohmann::json;
using server::Answer;
using server::cni_error;

namespace {

constexpr std::chrono::seconds kQueuedWithin{60};

// A queued DEL is whole in an instant; what has been in the making for longer was left by a CNI binary that
// was killed, and the runtime calls DEL again.
void remove_if_abandoned(const std::filesystem::path& part) {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto written = fs::last_write_time(part, error);
  if (error || fs::file_time_type::clock::now() - written < kQueuedWithin) return;
  if (fs::remove(part, error)) spdlog::info("removed {}, left by a DEL that was killed", part.string());
}

}  // namespace

Answer Controller::cni_gc(const json& body) {
  const auto held = mover_.hold();
  const auto list = body.is_object() ? body.find("attachments") : body.end();
  if (list == body.end() || !list->is_array())
    return cni_error(server::kCniDecodeFailure, "the request has no list of attachments");
  std::set<ipam::AttachmentKey> valid;
  for (const auto& entry : *list) {
    auto key = key_from(entry);
    if (!key) return cni_error(server::kCniDecodeFailure, key.error().message);
    valid.insert(*key);
  }
  return on_thread([this, valid, network = text(body, "network")]() -> Answer {
    std::vector<ipam::Attachment> stale;
    for (const auto& [key, attachment] : ipam_.attachments())
      if (attachment.network == network && !valid.contains(key)) stale.push_back(attachment);
    Answer answer{200, {{"released", json::array()}}};
    std::string failed;
    for (const auto& attachment : stale) {
      if (auto done = forget(attachment.key); !done) {
        // One that cannot be given back must not keep the others (CNI spec 1.1, "GC").
        failed += (failed.empty() ? "" : "; ") + done.error().message;
        continue;
      }
      SLUICE_FAULT_POINT("gc.released");
      answer.body["released"].push_back({{"containerID", attachment.key.container_id},
                                         {"ifname", attachment.key.ifname},
                                         {"hostIfname", attachment.host_ifname}});
      spdlog::info("GC: released {} of container {}", attachment.ipv4.to_string(),
                   attachment.key.container_id);
    }
    if (!failed.empty())
      return cni_error(server::kCniInternal, "stale attachments cannot be given back", failed);
    return answer;
  });
}

// DELs that came while no daemon ran: the CNI binary left one file each.
void Controller::replay_deletions() {
  namespace fs = std::filesystem;
  std::error_code ignored;
  for (fs::directory_iterator i(deletions_folder(options_.state_dir), ignored), end; i != end;
       i.increment(ignored)) {
    if (i->path().extension() == ".part") remove_if_abandoned(i->path());
    if (i->path().extension() != ".json") continue;
    std::ifstream file(i->path());
    const auto body = json::parse(file, nullptr, false);
    auto key = key_from(body);
    if (!key) {
      spdlog::error("queued DEL {} is damaged and was set aside; GC gives back what it held",
                    i->path().string());
      fs::rename(i->path(), i->path().string() + ".corrupt", ignored);
      continue;
    }
    SLUICE_FAULT_POINT("replay.begun");
    if (auto done = forget(*key); !done) {
      spdlog::error("queued DEL of container {}: {}", key->container_id, done.error().message);
      continue;
    }
    SLUICE_FAULT_POINT("replay.released");
    spdlog::info("queued DEL of container {} carried out", key->container_id);
    fs::remove(i->path(), ignored);
    SLUICE_FAULT_POINT("replay.removed");
  }
}

}  // namespace sluice::controller
