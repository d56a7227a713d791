// SPDX-License-Identifier: Apache-2.0
// Where the objects come from. A source runs threads of its own and tells a sink what it sees; it tells the
// full state of a kind first (and again after it lost track), then changes.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/model/objects.h"

namespace sluice::source {

// All objects of each kind that is named.
using FullState = std::map<model::Kind, std::vector<model::Object>>;

class Sink {
 public:
  virtual ~Sink() = default;
  // All calls may come from any thread, those for one kind in order.
  // What is told in one call becomes visible at once: no rules are made of a part of it.
  virtual void replace(FullState state) = 0;
  virtual void upsert(model::Object object) = 0;
  virtual void remove(model::ObjectKey key) = 0;
  // An object that cannot be used, why, and what is in force instead: what was known of it before, else for a
  // NetworkPolicy the isolation of the pods that it selects.
  virtual void rejected(const std::string& what) = 0;
};

struct Status {
  std::string description;            // "Kubernetes API https://10.10.0.10:6443", "YAML folder /etc/sluice"
  bool connected = false;             // all kinds are being watched right now
  std::string last_error;             // empty: none since the last success
  std::vector<std::string> rejected;  // objects that cannot be used as they are now
  std::uint64_t lists = 0, watches = 0, events = 0, errors = 0;
};

class Source {
 public:
  virtual ~Source() = default;  // stops and joins its threads
  [[nodiscard]] virtual Result<void> start(Sink& sink) = 0;
  virtual void stop() = 0;
  [[nodiscard]] virtual Status status() const = 0;
};

}  // namespace sluice::source
