// SPDX-License-Identifier: Apache-2.0
// A folder of Kubernetes manifests as a source: no cluster needed. Every *.yaml, *.yml and *.json in it
// counts, with any number of documents or Lists; a change takes effect when a file is closed or renamed into
// place.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/fd.h"
#include "daemon/source/source.h"

namespace sluice::source {

class Folder;

class YamlSource final : public Source {
 public:
  struct Options {
    std::string folder;
  };
  [[nodiscard]] static Result<std::unique_ptr<YamlSource>> make(Options options);
  ~YamlSource() override;

  [[nodiscard]] Result<void> start(Sink& sink) override;  // an error if the folder is not there
  void stop() override;
  [[nodiscard]] Status status() const override;

 private:
  explicit YamlSource(Options options);
  Result<void> watch_folder();
  void run(Sink& sink);
  void scan(Folder& folder, Sink& sink);
  bool wait();  // until something changes, or for a while; false: stop
  bool read_events();
  void lost(const std::string& error);

  const Options options_;
  Fd inotify_;
  Fd stop_event_;
  int watch_ = -1;  // of the folder; -1: it is not there
  std::thread thread_;
  mutable std::mutex mutex_;
  Status status_;
};

}  // namespace sluice::source
