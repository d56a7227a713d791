// SPDX-License-Identifier: Apache-2.0
// Takes away everything that Sluice made on this node (docs/uninstall.md), whichever build made it: pods lose
// their network.
#pragma once

#include <string>

#include "common/result.h"

namespace sluice::removal {

struct Places {
  std::string bpffs;
  std::string run_dir;
  std::string state_dir;
  std::string cni_bin_dir, cni_net_dir;  // empty: what is there stays
};

// Nothing to remove is no error. An error if a daemon runs, of which nothing is removed then, or if something
// could not be removed: the log names it, and the rest is gone.
[[nodiscard]] Result<void> remove_all(const Places& places);

}  // namespace sluice::removal
