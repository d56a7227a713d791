// SPDX-License-Identifier: Apache-2.0
// When the folders of the runtime are looked at.
#include "daemon/install/watch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "daemon/install/folder.h"

namespace sluice::install {
namespace {

namespace fs = std::filesystem;

class FolderWatchTest : public testing::Test {
 protected:
  FolderWatchTest() {
    char pattern[] = "/tmp/sluice-watch-XXXXXX";
    home_ = mkdtemp(pattern);
    for (const auto* folder : {"bin", "net"}) fs::create_directory(home_ + "/" + folder);
  }
  ~FolderWatchTest() override {
    watch_.reset();
    fs::remove_all(home_);
  }

  void start() {
    auto watch = FolderWatch::start({home_ + "/net", home_ + "/bin"}, [this] {
      const std::lock_guard lock(mutex_);
      ++told_;
      wake_.notify_all();
    });
    ASSERT_TRUE(watch) << watch.error().message;
    watch_ = std::move(*watch);
  }
  int told() {
    const std::lock_guard lock(mutex_);
    return told_;
  }
  bool is_told_after(int before, std::chrono::milliseconds within = std::chrono::seconds(30)) {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, within, [&] { return told_ > before; });
  }

  std::string home_;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  int told_ = 0;
  std::unique_ptr<FolderWatch> watch_;
};

TEST_F(FolderWatchTest, TellsOfChanges) {
  start();
  for (const auto* name : {"net/a", "bin/b"}) {
    const int before = told();
    std::ofstream(home_ + "/" + name) << "x";
    EXPECT_TRUE(is_told_after(before)) << name;
  }
  EXPECT_FALSE(FolderWatch::start({home_ + "/missing"}, [] {}));
}

TEST_F(FolderWatchTest, WhatCouldNotBeWrittenToTheEndIsNoChange) {
  fs::create_directory(home_ + "/net/folder");
  start();
  EXPECT_FALSE(write_whole(home_ + "/net", "folder", "x", 0644));
  EXPECT_FALSE(is_told_after(0, std::chrono::milliseconds(300)));
  EXPECT_TRUE(write_whole(home_ + "/net", "file", "x", 0644));
  EXPECT_TRUE(is_told_after(0));
}

}  // namespace
}  // namespace sluice::install
