// SPDX-License-Identifier: Apache-2.0
// A source's sink for tests: holds what it was told and lets a test wait for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/source/source.h"

namespace sluice::source {

class RecordingSink final : public Sink {
 public:
  struct State {
    std::map<model::ObjectKey, model::Object> objects;
    std::map<model::Kind, int> replaced;  // how often
    std::vector<std::string> rejections;
    int full_states = 0;  // calls of replace()
    int upserts = 0;

    [[nodiscard]] std::vector<std::string> names(model::Kind kind) const {
      std::vector<std::string> found;
      for (const auto& [key, object] : objects) {
        if (key.kind == kind) found.push_back(key.name);
      }
      return found;
    }
    [[nodiscard]] bool has(model::Kind kind, const std::string& name) const {
      for (const auto& [key, object] : objects) {
        if (key.kind == kind && key.name == name) return true;
      }
      return false;
    }
    [[nodiscard]] bool synced() const { return replaced.size() == model::kKinds; }
    [[nodiscard]] bool rejected(const std::string& part) const {
      for (const auto& text : rejections) {
        if (text.find(part) != std::string::npos) return true;
      }
      return false;
    }
  };

  void replace(FullState told) override {
    change([&](State& state) {
      ++state.full_states;
      std::erase_if(state.objects, [&](const auto& entry) { return told.contains(entry.first.kind); });
      for (auto& [kind, objects] : told) {
        for (auto& object : objects) state.objects.insert_or_assign(model::key_of(object), std::move(object));
        ++state.replaced[kind];
      }
    });
  }
  void upsert(model::Object object) override {
    change([&](State& state) {
      ++state.upserts;
      state.objects.insert_or_assign(model::key_of(object), std::move(object));
    });
  }
  void remove(model::ObjectKey key) override {
    change([&](State& state) { state.objects.erase(key); });
  }
  void rejected(const std::string& what) override {
    change([&](State& state) { state.rejections.push_back(what); });
  }

  // False: it did not come true, long after it should have.
  bool wait(const std::function<bool(const State&)>& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return condition(state_); });
  }
  State state() {
    const std::lock_guard lock(mutex_);
    return state_;
  }

 private:
  void change(const std::function<void(State&)>& how) {
    const std::lock_guard lock(mutex_);
    how(state_);
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  State state_;
};

// For what is told nowhere: asks again until it is so. False: it never was.
inline bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    never.wait_for(lock, std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace sluice::source
