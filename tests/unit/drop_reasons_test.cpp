// SPDX-License-Identifier: Apache-2.0
// An administrator who meets a reason in a counter or an event finds it in docs/drop-reasons.md.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>

#include "bpf/abi.h"
#include "tests/source_folder.h"

namespace {

struct Reason {
  std::string name, text;
};

const std::string kDocument = std::string(sluice::kSourceFolder) + "/docs/drop-reasons.md";

const std::vector<Reason>& reasons() {
  static const std::vector<Reason> all{
#define SLUICE_X(name, text) {#name, text},
      SLUICE_DROP_REASONS(SLUICE_X)
#undef SLUICE_X
  };
  return all;
}

// "| `NAME` | what it means | what to check |" -> the cells after the name
std::map<std::string, std::vector<std::string>> documented() {
  std::map<std::string, std::vector<std::string>> rows;
  std::ifstream file(kDocument);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("| `")) continue;
    const auto end = line.find('`', 3);
    std::vector<std::string> cells;
    for (auto bar = line.find('|', end); bar + 1 < line.size(); bar = line.find('|', bar + 1)) {
      const auto next = line.find('|', bar + 1);
      if (next == std::string::npos) break;
      cells.push_back(line.substr(bar + 1, next - bar - 1));
    }
    EXPECT_TRUE(rows.emplace(line.substr(3, end - 3), cells).second) << "twice: " << line;
  }
  return rows;
}

TEST(DropReasons, EachIsDocumentedWithItsMeaningAndWhatToCheck) {
  const auto rows = documented();
  for (const auto& reason : reasons()) {
    if (reason.name == "NONE") continue;
    const auto row = rows.find(reason.name);
    ASSERT_NE(row, rows.end()) << reason.name << " has no line in " << kDocument;
    ASSERT_EQ(row->second.size(), 2u) << reason.name;
    for (const auto& cell : row->second) EXPECT_GT(cell.size(), 20u) << reason.name << ":" << cell;
  }
}

TEST(DropReasons, NothingElseIsDocumented) {
  for (const auto& [name, cells] : documented()) {
    bool known = false;
    for (const auto& reason : reasons()) known = known || reason.name == name;
    EXPECT_TRUE(known) << name << " is no reason of bpf/abi.h";
  }
}

}  // namespace
