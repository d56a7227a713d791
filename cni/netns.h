// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "common/fd.h"
#include "common/result.h"

namespace sluice::cni {

// A network namespace held open by the path that the runtime gave.
class NetworkNamespace {
 public:
  // Fails unless it is a network namespace, and another one than that of this thread.
  [[nodiscard]] static Result<NetworkNamespace> open(const std::string& path);

  [[nodiscard]] int fd() const { return fd_.get(); }
  // The calling thread's namespace from now on. Sockets made before stay in theirs; so the plugin need not
  // come back.
  [[nodiscard]] Result<void> enter() const;

 private:
  NetworkNamespace(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Fd fd_;
  std::string path_;
};

}  // namespace sluice::cni
