// SPDX-License-Identifier: Apache-2.0
// Failures of the bpf system call and of libbpf in an administrator's words.
#pragma once

#include <string>

#include "common/result.h"

namespace sluice::datapath {

// Collects what libbpf has to say in this thread (a verifier's log, netlink's complaint) while it lives,
// instead of letting it go to stderr. Instances do not nest.
class LibbpfMessages {
 public:
  LibbpfMessages();
  LibbpfMessages(const LibbpfMessages&) = delete;
  LibbpfMessages& operator=(const LibbpfMessages&) = delete;
  ~LibbpfMessages();

  void add(const std::string& line, bool warning);

  // "<what>: <errno's text>; libbpf: <its last words>", with what to do about missing capabilities.
  [[nodiscard]] tl::unexpected<Error> failure(int code, const std::string& what) const;

  // `what` succeeded. If libbpf warned nevertheless (a kernel refuses an object's types, say), its warnings
  // go to the log, but not again while they stay the same: a firewall is loaded with each change of the
  // policies.
  void log_warnings(const std::string& what) const;

 private:
  std::string text_;
  std::string warnings_;
};

// The kernel's ENOTSUPP, which is not the C library's ENOTSUP: a map type without that operation.
inline constexpr int kKernelNotSupported = 524;

}  // namespace sluice::datapath
