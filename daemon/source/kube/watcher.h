// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/model/tree.h"
#include "daemon/source/kube/backoff.h"
#include "daemon/source/kube/connection.h"
#include "daemon/source/kube/progress.h"

namespace sluice::source {

// Keeps the sink told of one kind: list, watch from the list's resourceVersion, resume the watch where it
// ended, list again when the server no longer has that version or anything was not understood. A failure
// never takes away what the sink was told.
class Watcher {
 public:
  Watcher(model::Kind kind, const KubeConfig& config, Sink& sink, Progress& progress);
  void run();   // until stop()
  void stop();  // from another thread; call again until run() has returned

 private:
  struct Outcome {
    std::string error;                         // empty: ended as it should
    bool list_again = false;                   // the state is unknown
    bool advanced = false;                     // something was learnt: not one more failure in a row
    std::chrono::milliseconds retry_after{0};  // as the server asks; without an error: when to go on
    void lose(const std::string& why);         // the watch failed and took our knowledge of the state along
  };
  struct Rejected {
    std::string why;
    std::optional<model::Object> closed;  // stands in for a policy that is not known otherwise
  };
  struct Listed {
    std::vector<model::Object> objects;
    std::map<model::ObjectKey, Rejected> rejected;
    std::string version;
    bool absent = false;  // the server has no such kind
  };

  Outcome attempt();
  Outcome list();
  Outcome list_page(Connection& connection, Listed& listed, std::string& continue_token);
  Result<void> list_item(std::string_view text, bool whole, Listed& listed);
  Result<void> list_long_item(std::string_view beginning, Listed& listed);
  [[nodiscard]] std::string no_list() const;
  Outcome absent();
  void tell(Listed listed);
  Outcome watch();
  bool handle(std::string_view line, Outcome& outcome);
  bool handle_object(std::string_view type, const model::Value& object, Outcome& outcome);
  [[nodiscard]] bool keeps_earlier(const model::ObjectKey& key) const;
  Rejected reject(const model::Value& object, const Error& error);
  void put(const model::Value& object);
  void pause(std::chrono::milliseconds duration);
  bool stopping();

  const model::Kind kind_;
  const KubeConfig& config_;
  Sink& sink_;
  Progress& progress_;
  const std::shared_ptr<Interrupter> interrupter_ = std::make_shared<Interrupter>();
  std::mt19937 random_{std::random_device{}()};

  std::string version_;                // resourceVersion that the watch resumes from; empty: list first
  bool listed_ = false;                // the sink was told of a list
  bool paged_ = true;                  // false for one list after the server forgot where a paged one was
  unsigned refused_ = 0;               // watches in a row that the server answered but that brought nothing
  std::set<model::ObjectKey> known_;   // to the sink
  std::set<model::ObjectKey> closed_;  // of those, policies that something stands in for

  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
};

}  // namespace sluice::source
