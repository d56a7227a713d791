// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <map>
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
  void absent(model::Kind kind);    // the server has no such kind, which is as good as watching an empty one
  void event();
  void lost(model::Kind kind, const std::string& error);  // a list or watch failed
  // An object of which a list or an event told cannot be used, or can be used, or is gone.
  void rejected(const model::ObjectKey& key, const std::string& why);
  void settled(const model::ObjectKey& key);
  // A list of that kind told of these and of no other one.
  void rejected(model::Kind kind, const std::map<model::ObjectKey, std::string>& all);
  void stopped();
  [[nodiscard]] Status status() const;

 private:
  struct KindState {
    bool watching = false;
    bool absent = false;
    std::string error;  // since the last success
  };
  mutable std::mutex mutex_;
  Status status_;
  std::array<KindState, model::kKinds> kinds_;
  std::map<model::ObjectKey, std::string> rejected_;
};

}  // namespace sluice::source
