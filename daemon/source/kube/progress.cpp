// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/progress.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace sluice::source {

Progress::Progress(std::string description) { status_.description = std::move(description); }

void Progress::listed(model::Kind kind, std::size_t objects) {
  const std::lock_guard lock(mutex_);
  ++status_.lists;
  spdlog::debug("{}: {} objects listed", to_string(kind), objects);
}

void Progress::watching(model::Kind kind) {
  const std::lock_guard lock(mutex_);
  ++status_.watches;
  auto& state = kinds_[static_cast<std::size_t>(kind)];
  if (!state.error.empty()) spdlog::info("{}: watched again", to_string(kind));
  state = {.watching = true, .absent = false, .error = {}};
}

void Progress::absent(model::Kind kind) {
  const std::lock_guard lock(mutex_);
  auto& state = kinds_[static_cast<std::size_t>(kind)];
  if (!std::exchange(state.absent, true))
    spdlog::info("the API server has no objects of kind {}; it is asked again from time to time",
                 to_string(kind));
  state.watching = true;
  state.error.clear();
}

void Progress::event() {
  const std::lock_guard lock(mutex_);
  ++status_.events;
}

void Progress::lost(model::Kind kind, const std::string& error) {
  const std::lock_guard lock(mutex_);
  ++status_.errors;
  auto& state = kinds_[static_cast<std::size_t>(kind)];
  // Attempts repeat; the log says each thing once.
  if (state.error != error) spdlog::warn("{}: {}; trying again", to_string(kind), error);
  state.watching = false;
  state.error = error;
}

void Progress::rejected(const model::ObjectKey& key, const std::string& why) {
  const std::lock_guard lock(mutex_);
  rejected_.insert_or_assign(key, why);
}

void Progress::settled(const model::ObjectKey& key) {
  const std::lock_guard lock(mutex_);
  rejected_.erase(key);
}

void Progress::rejected(model::Kind kind, const std::map<model::ObjectKey, std::string>& all) {
  const std::lock_guard lock(mutex_);
  std::erase_if(rejected_, [kind](const auto& entry) { return entry.first.kind == kind; });
  rejected_.insert(all.begin(), all.end());
}

void Progress::stopped() {
  const std::lock_guard lock(mutex_);
  for (auto& state : kinds_) state.watching = false;
}

Status Progress::status() const {
  const std::lock_guard lock(mutex_);
  auto status = status_;
  status.connected = std::ranges::all_of(kinds_, &KindState::watching);
  for (const auto& [key, why] : rejected_) status.rejected.push_back(why);
  for (std::size_t i = 0; i < kinds_.size() && status.last_error.empty(); ++i) {
    if (!kinds_[i].error.empty())
      status.last_error = fmt::format("{}: {}", to_string(static_cast<model::Kind>(i)), kinds_[i].error);
  }
  return status;
}

}  // namespace sluice::source
