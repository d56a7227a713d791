// SPDX-License-Identifier: Apache-2.0
// The files of tests/corpus, which the fuzzers begin from too.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "tests/source_folder.h"

namespace sluice::corpus {

inline std::filesystem::path folder(const std::string& name) {
  return std::filesystem::path(kSourceFolder) / "tests" / "corpus" / name;
}

inline std::string read(const std::string& name, const std::string& file) {
  std::ifstream in(folder(name) / file, std::ios::binary);
  EXPECT_TRUE(in) << name << "/" << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

// The names of a folder's files that begin with `prefix`.
inline std::set<std::string> files(const std::string& name, const std::string& prefix) {
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder(name)))
    if (auto file = entry.path().filename().string(); file.starts_with(prefix)) found.insert(std::move(file));
  return found;
}

}  // namespace sluice::corpus
