// SPDX-License-Identifier: Apache-2.0
#include "common/confinement.h"

#include <fstream>

namespace sluice {

std::string apparmor_label() {
  std::ifstream file("/proc/self/attr/apparmor/current");
  std::string label;
  std::getline(file, label);
  return label;
}

std::string apparmor_hint(const std::string& label) {
  const std::string enforced = " (enforce)";
  if (!label.ends_with(enforced)) return {};
  return " (perhaps by AppArmor: this process runs under its profile " +
         label.substr(0, label.size() - enforced.size()) +
         "; it should run unconfined, chart value appArmorProfile.type: Unconfined)";
}

}  // namespace sluice
