// SPDX-License-Identifier: Apache-2.0
// Entry programs on interfaces: tcx links, pinned; clsact filters where the kernel has no tcx (before 6.6).
#pragma once

#include <array>
#include <cstdint>

#include "bpf/abi.h"
#include "common/result.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/modules.h"
#include "daemon/datapath/pins.h"

namespace sluice::datapath {

class Attacher {
 public:
  // Whether this kernel's way in that mode is tcx.
  [[nodiscard]] static Result<bool> uses_tcx(AttachMode mode);
  Attacher(bool tcx, const Pins& pins, const std::array<Program, SLUICE_HOOK_COUNT>& programs)
      : tcx_(tcx), pins_(pins), programs_(programs) {}

  // The hook's entry program on the interface's ingress. Replaces another program of ours in place; with the
  // right one there already, does nothing.
  [[nodiscard]] Result<void> attach(std::uint32_t ifindex, sluice_hook hook) const;
  // No error if nothing is attached or the interface is gone.
  [[nodiscard]] Result<void> detach(std::uint32_t ifindex) const;
  // Removes pins of interfaces that are gone.
  [[nodiscard]] Result<void> sweep() const;
  // What is attached there. ENOENT in Error::code: nothing.
  [[nodiscard]] Result<LinkStatus> attached(std::uint32_t ifindex) const;
  // The error says what is attached instead of the hook's program.
  [[nodiscard]] Result<void> verify(std::uint32_t ifindex, sluice_hook hook) const;

 private:
  [[nodiscard]] Result<void> attach_tcx(std::uint32_t ifindex, const Program& program) const;
  [[nodiscard]] Result<void> attach_clsact(std::uint32_t ifindex, const Program& program) const;

  bool tcx_;
  const Pins& pins_;
  const std::array<Program, SLUICE_HOOK_COUNT>& programs_;
};

}  // namespace sluice::datapath
