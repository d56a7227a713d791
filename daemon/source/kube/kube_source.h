// SPDX-License-Identifier: Apache-2.0
// The Kubernetes API as a source: each kind is listed once and then watched, by a thread of its own.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "daemon/source/kube/config.h"
#include "daemon/source/source.h"

namespace sluice::source {

class Progress;
class Watcher;

class KubeSource final : public Source {
 public:
  // Looks at the configuration and its files, connects to nothing yet.
  [[nodiscard]] static Result<std::unique_ptr<KubeSource>> make(KubeConfig config);
  ~KubeSource() override;

  [[nodiscard]] Result<void> start(Sink& sink) override;
  void stop() override;  // ends what is under way at once
  [[nodiscard]] Status status() const override;

  // One pod, asked for now: the runtime may call before the watch has told of it. No value: there is none.
  // From any thread; takes 2 seconds at most.
  [[nodiscard]] Result<std::optional<model::Pod>> get_pod(const std::string& ns,
                                                          const std::string& name) const;

 private:
  explicit KubeSource(KubeConfig config);

  const KubeConfig config_;
  std::unique_ptr<Progress> progress_;
  std::vector<std::unique_ptr<Watcher>> watchers_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::size_t running_ = 0;  // threads that have not ended
};

}  // namespace sluice::source
