// SPDX-License-Identifier: Apache-2.0
// Other plugins' configurations in the runtime's folder. A runtime takes the first by name.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "common/result.h"

namespace sluice::install {

class OtherConfigurations {
 public:
  explicit OtherConfigurations(std::string folder) : folder_(std::move(folder)) {}

  // Renames those by which pods would get another network than Sluice's. Returns those that it put aside
  // before: somebody has written them again.
  [[nodiscard]] Result<std::vector<std::string>> put_aside();
  // The first by which the runtime would give pods another network than Sluice's; empty: there is none.
  [[nodiscard]] Result<std::string> before_ours() const;
  // What is done with a newer one that calls Sluice.
  enum class Callers {
    kStay,     // what was put aside waits
    kMakeRoom  // Sluice goes: they would lead nowhere
  };
  // What was put aside gets its name back, unless somebody has written a newer one for another network. One
  // that fails keeps no other from it.
  [[nodiscard]] Result<void> bring_back(Callers callers) const;
  // Those that call Sluice.
  [[nodiscard]] Result<std::vector<std::string>> leading_to_sluice() const;

 private:
  [[nodiscard]] Result<std::vector<std::string>> select(bool lead_to_sluice) const;
  [[nodiscard]] bool calls_sluice(const std::string& name) const;
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_;
  std::set<std::string> aside_;
};

}  // namespace sluice::install
