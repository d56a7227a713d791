// SPDX-License-Identifier: Apache-2.0
// The socket module on the node's cgroup v2, by links that are pinned (bpf_link of cgroups, Linux 5.7).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "common/fd.h"
#include "common/result.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/modules.h"
#include "daemon/datapath/pins.h"
#include "daemon/datapath/settings.h"

namespace sluice::datapath {

class SocketHooks {
 public:
  using Programs = std::array<Program, kSocketPrograms.size()>;
  // `cgroup`: see Options.
  SocketHooks(const Pins& pins, const Programs& programs, const std::string& cgroup)
      : pins_(pins), programs_(programs), cgroup_(cgroup) {}

  // After a start: tells the programs which network namespace is the node's, and attaches them. Where there
  // is no cgroup v2 they are not, which is no error.
  [[nodiscard]] Result<void> adopt(const Settings& settings);
  // Puts back what somebody has taken away.
  [[nodiscard]] Result<void> restore() const;
  [[nodiscard]] Result<void> audit(std::vector<std::string>& differences) const;
  [[nodiscard]] const SocketStatus& status() const { return status_; }

 private:
  struct Cgroup {
    std::string path;
    Fd fd;
    std::uint64_t id = 0;
  };
  [[nodiscard]] Result<Cgroup> open_cgroup() const;
  // What is amiss, in words, or "".
  [[nodiscard]] Result<std::string> amiss(std::size_t index, const Cgroup& cgroup) const;
  [[nodiscard]] Result<void> attach(std::size_t index, const Cgroup& cgroup) const;
  [[nodiscard]] Result<void> detach() const;

  const Pins& pins_;
  const Programs& programs_;
  const std::string& cgroup_;
  SocketStatus status_;
};

}  // namespace sluice::datapath
