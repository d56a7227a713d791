// SPDX-License-Identifier: Apache-2.0
// Entry programs on interfaces, in one of two ways:
// - a tcx link, pinned (Linux 6.6). Nobody takes it away by chance, and qdiscs and programs of others have
//   room beside it. But making one waits for an RCU grace period (5 to 10 ms on an idle machine), in which
//   nothing on the node can change an interface: tcx_entry_sync(), with the RTNL lock held.
// - a filter on a clsact qdisc. Waits for nothing, but another plugin has no room for an ingress qdisc.
// Both are replaced in place. What is attached stays as it is attached; a way is chosen for what is not yet.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "bpf/abi.h"
#include "common/result.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/modules.h"
#include "daemon/datapath/pins.h"

namespace sluice::datapath {

// Whose an interface's ingress is.
enum class Ingress {
  kOurs,    // Sluice's alone
  kShared,  // others may have qdiscs or programs there
};

class Attacher {
 public:
  // Which interfaces get tcx on this kernel in that mode.
  struct Ways {
    bool ours_by_tcx = false, shared_by_tcx = false;
  };
  [[nodiscard]] static Result<Ways> ways(AttachMode mode);
  Attacher(Ways ways, const Pins& pins, const std::array<Program, SLUICE_HOOK_COUNT>& programs)
      : ways_(ways), pins_(pins), programs_(programs) {}

  // The hook's entry program on the interface's ingress. Replaces another program of ours in place.
  [[nodiscard]] Result<void> attach(std::uint32_t ifindex, sluice_hook hook, Ingress ingress) const;
  // The same where it is not the one that is attached; what was amiss, in words, or "". Nothing is done if
  // the interface is gone.
  [[nodiscard]] Result<std::string> refresh(std::uint32_t ifindex, sluice_hook hook) const;
  // The same where that means that somebody has removed or replaced it: logged as an error.
  [[nodiscard]] Result<void> restore(std::uint32_t ifindex, sluice_hook hook) const;
  // No error if nothing is attached or the interface is gone.
  [[nodiscard]] Result<void> detach(std::uint32_t ifindex) const;
  // Removes the pin of an interface that is gone.
  [[nodiscard]] Result<void> forget(std::uint32_t ifindex) const;
  // The same for all such pins.
  [[nodiscard]] Result<void> sweep() const;
  // What is attached there. In Error::code, ENOENT: nothing, ENODEV: the interface is gone.
  [[nodiscard]] Result<LinkStatus> attached(std::uint32_t ifindex) const;
  // The error says what is attached instead of the hook's program.
  [[nodiscard]] Result<void> verify(std::uint32_t ifindex, sluice_hook hook) const;

 private:
  [[nodiscard]] Result<void> attach_tcx(std::uint32_t ifindex, const Program& program) const;

  Ways ways_;
  const Pins& pins_;
  const std::array<Program, SLUICE_HOOK_COUNT>& programs_;
};

}  // namespace sluice::datapath
