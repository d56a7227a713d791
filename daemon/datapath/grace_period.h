// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/fd.h"
#include "common/result.h"

namespace sluice::datapath {

// Waits until every packet that is inside a program now has left it (an RCU grace period, some milliseconds).
// The kernel does this for user space in one place: an update of a map of maps returns only after it.
class GracePeriod {
 public:
  [[nodiscard]] static Result<GracePeriod> make();
  [[nodiscard]] Result<void> wait() const;

 private:
  Fd inner_;
  Fd outer_;
};

}  // namespace sluice::datapath
