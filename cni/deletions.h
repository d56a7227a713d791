// SPDX-License-Identifier: Apache-2.0
// DELs that the daemon could not be told of, one file each: <stateDir>/deletions/<containerID>_<ifname>.json
// with
// {"containerID","ifname"}. The daemon does what it finds there when it starts, before it serves, and removes
// the file.
// The daemon makes the folder when it starts, and sluiced --remove takes it away: where it is missing, Sluice
// is not on this node, and the plugin leaves nothing there.
#pragma once

#include <string>

#include "cni/environment.h"
#include "common/fd.h"
#include "common/paths.h"
#include "common/result.h"

namespace sluice::cni {

class Deletions {
 public:
  explicit Deletions(const std::string& state_dir) : folder_(deletions_folder(state_dir)) {}

  // Until what it returns is closed, sluiced --remove waits. ENOENT: Sluice is not, or no longer, on this
  // node.
  [[nodiscard]] Result<Fd> hold() const;
  // On disk, whole, when it returns. ENOENT: as above.
  [[nodiscard]] Result<void> add(const AttachmentKey& key) const;
  [[nodiscard]] bool contains(const AttachmentKey& key) const;
  [[nodiscard]] Result<void> remove(const AttachmentKey& key) const;  // not there: no error

 private:
  [[nodiscard]] std::string path_of(const AttachmentKey& key) const;
  std::string folder_;
};

}  // namespace sluice::cni
