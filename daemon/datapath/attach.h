// SPDX-License-Identifier: Apache-2.0
// Entry programs on interfaces, in one of two ways:
// - a tcx link, pinned (Linux 6.6). Nobody takes it away by chance, and qdiscs and programs of others have
//   room beside it. But making one waits for an RCU grace period (5 to 10 ms on an idle machine), in which
//   nothing on the node can change an interface: tcx_entry_sync(), with the RTNL lock held.
// - a filter on a clsact qdisc. Waits for nothing, but costs each packet some nanoseconds more, and another
//   plugin has no room for an ingress qdisc.
// Both are replaced in place. A way is chosen for what is not attached yet; what is stays as it is attached,
// but for pods' links that were given a filter for the sake of their ADD alone: they are moved to tcx later.
//
// While a link is moved both are there. tcx comes first, and the filter only if its program leaves the packet
// to others (TC_ACT_UNSPEC), which that of pods' links never does: each packet is seen by one of the two.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "common/fd.h"
#include "common/netlink.h"
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
  // Interfaces that a link is pinned for, in order.
  [[nodiscard]] std::vector<std::uint32_t> pinned() const { return pins_.links(); }
  // Are pods' links by clsact to be moved?
  [[nodiscard]] bool moves() const { return ways_.shared_by_tcx && !ways_.ours_by_tcx; }
  // First half: the hook's program by tcx, beside the filter, for as long as the descriptor lives. Waits for
  // the grace period; thread-safe. ENODEV in Error::code: the interface is gone.
  [[nodiscard]] Result<Fd> begin_move(std::uint32_t ifindex, sluice_hook hook) const;
  // Second half: pins that link and takes the filter away. On failure the filter alone is in force again,
  // once the descriptor is closed.
  [[nodiscard]] Result<void> finish_move(NetlinkSocket& netlink, std::uint32_t ifindex, const Fd& link) const;
  // After a start: takes the filter away beside a link, which a daemon left that was killed between the two.
  [[nodiscard]] Result<void> finish_interrupted_move(NetlinkSocket& netlink, std::uint32_t ifindex) const;
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

// Takes Sluice's filter away from an interface of which nothing is known, and the clsact qdisc if Sluice made
// it. False: there was none.
[[nodiscard]] Result<bool> remove_own_filter(NetlinkSocket& netlink, std::uint32_t ifindex);

}  // namespace sluice::datapath
