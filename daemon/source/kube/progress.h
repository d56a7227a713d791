// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <mutex>
#include <string>

#include "daemon/model/objects.h"
#include "daemon/source/source.h"

namespace sluice::source {

// What the watchers have come to, for Status and the log.
class Progress {
 public:
  explicit Progress(std::string description);
  void listed(model::Kind kind, std::size_t objects);
  void watching(model::Kind kind);  // a watch has been opened
  void event();
  void lost(model::Kind kind, const std::string& error);  // a list or watch failed
  void stopped();
  [[nodiscard]] Status status() const;

 private:
  struct KindState {
    bool watching = false;
    std::string error;  // since the last success
  };
  mutable std::mutex mutex_;
  Status status_;
  std::array<KindState, model::kKinds> kinds_;
};

}  // namespace sluice::source
