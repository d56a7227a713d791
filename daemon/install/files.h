// SPDX-License-Identifier: Apache-2.0
// What the container runtime reads on the node: the CNI binary and the list of plugins. Put there, kept
// there, and taken away again.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/install/conflist.h"
#include "daemon/install/others.h"

namespace sluice::install {

struct Options {
  std::string conflist;  // as it has to be on the node; empty: somebody else sees to all of this
  std::string plugin = "/opt/sluice/bin/sluice-cni";
  std::string bin_dir, net_dir;  // the node's folders that the runtime reads
  bool exclusive = true;         // others' configurations are put aside, once Sluice's is there
};

struct Look {
  std::vector<std::string> found;  // what was not as this process had left it
  std::string problem;             // what keeps the runtime from calling Sluice; empty: nothing
};

class NodeFiles {
 public:
  explicit NodeFiles(Options options) : options_(std::move(options)), others_(options_.net_dir) {}

  // Writes what differs. Each file appears under its name complete or not at all: the runtime may read the
  // folders at any moment.
  [[nodiscard]] Look put_back();

 private:
  // ---- true: it was not as it has to be
  [[nodiscard]] Result<bool> put_binaries();
  [[nodiscard]] Result<bool> put_conflist();
  [[nodiscard]] Result<void> heed_others(Look& look);

  Options options_;
  OtherConfigurations others_;
  std::optional<Json> ours_;           // the list as the chart has it
  std::optional<Json> last_;           // and as it was on the node last, with what others had added
  std::optional<struct stat> binary_;  // as it was when its content was right
  bool brought_back_ = false;          // what a daemon that was exclusive had put aside
  bool placed_ = false;                // all was there once
};

// Others' configurations come back. Tells what was removed. What fails keeps nothing else from going, and the
// error tells all of it; but for the plugin, which stays while something that needs it is there.
[[nodiscard]] Result<std::vector<std::string>> remove_node_files(const std::string& bin_dir,
                                                                 const std::string& net_dir);

}  // namespace sluice::install
