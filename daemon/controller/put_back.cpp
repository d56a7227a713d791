// SPDX-License-Identifier: Apache-2.0
// What somebody else took from the node: devices, addresses, routes and rules by the datapath, files here.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "daemon/controller/controller.h"

namespace sluice::controller {

namespace fs = std::filesystem;

// Without it the CNI binary takes Sluice for removed: it attaches no pod.
Result<bool> Controller::make_deletions_folder() const {
  const auto folder = deletions_folder(options_.state_dir);
  std::error_code error;
  fs::create_directories(options_.state_dir, error);
  if (!error && ::mkdir(folder.c_str(), 0700) == 0) return true;
  if (!error && errno != EEXIST) error.assign(errno, std::generic_category());
  if (error) return failure_errno(error.value(), "create " + folder);
  if (!fs::is_directory(folder, error)) return failure("{} is no folder: remove it", folder);
  return false;
}

void Controller::also_put_back(AlsoPutBack what) {
  post([this, what = std::move(what)]() mutable {
    also_put_back_.push_back(std::move(what));
    look_at_node_at_ = Clock::now();
  });
}

// Not at once: what belongs together comes in several messages.
void Controller::look_at_node_soon() {
  constexpr std::chrono::milliseconds kLookAfter{200};
  post([this, kLookAfter] {
    if (!look_at_node_at_) look_at_node_at_ = Clock::now() + kLookAfter;
  });
}

// Told once while it does not change.
void Controller::put_back() {
  constexpr std::size_t kKept = 16;
  look_at_node_at_.reset();
  auto result = datapath_->put_back();
  const auto written = ipam_.put_back();
  const auto made = make_deletions_folder();
  for (const auto* error : {written ? nullptr : &written.error(), made ? nullptr : &made.error()})
    if (error != nullptr) result.problem += (result.problem.empty() ? "" : "; ") + error->message;
  if (written && *written > 0)
    result.found.push_back(fmt::format("{} records of attachments are missing", *written));
  if (made && *made)
    result.found.push_back("the folder " + deletions_folder(options_.state_dir) + " is missing");
  const bool configured = not_configured().empty();
  for (const auto& look : also_put_back_) look(configured, result);
  looked_ |= configured;
  auto& [found, problem] = result;
  if (problem != not_put_back_ && !problem.empty()) spdlog::error("{}; tried again in some seconds", problem);
  not_put_back_ = std::move(problem);
  auto before = std::exchange(found_before_, not_put_back_.empty() ? std::vector<std::string>() : found);
  const std::lock_guard lock(mutex_);
  for (auto& each : found) {
    if (std::ranges::find(before, each) != before.end()) continue;
    spdlog::error("{}: somebody else changed it; {}", each,
                  not_put_back_.empty() ? "it is put back" : "what is possible is put back");
    ++put_back_total_;
    last_put_back_.push_back(std::move(each));
    if (last_put_back_.size() > kKept) last_put_back_.pop_front();
  }
}

}  // namespace sluice::controller
