// SPDX-License-Identifier: Apache-2.0
// What libbpf has to say about objects that are loaded all the same: in the daemon's log, once.
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>

#include "daemon/datapath/object.h"
#include "refuse.skel.h"

namespace sluice::datapath {
namespace {

// As a generated skeleton. Loading makes libbpf complain, as it does where a kernel refuses an object's
// types, and succeeds.
struct Complaining {
  bpf_object* obj;

  static Complaining* open(const bpf_object_open_opts* options) {
    std::size_t size = 0;
    const void* bytes = refuse_bpf__elf_bytes(&size);
    auto named = *options;
    named.object_name = "complaining";
    return new Complaining{bpf_object__open_mem(bytes, size, &named)};
  }
  static int load(Complaining* /*skeleton*/) {
    for (int i = 0; i < complaints; ++i) bpf_object__open_file("/no/such/object.o", nullptr);
    return 0;
  }
  static void destroy(Complaining* skeleton) {
    bpf_object__close(skeleton->obj);
    delete skeleton;
  }
  static inline int complaints = 0;
};

class LibbpfMessagesTest : public ::testing::Test {
 protected:
  LibbpfMessagesTest() {
    const auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text_);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
    spdlog::set_pattern("%l: %v");
  }
  ~LibbpfMessagesTest() override { spdlog::set_default_logger(before_); }

  // What is logged while the object is loaded.
  std::string load(int complaints) {
    text_.str("");
    Complaining::complaints = complaints;
    ObjectOptions options;
    options.pin_root = "/sys/fs/bpf/no-such-folder";
    options.conntrack_groups = 1;
    auto object = Object<Complaining>::open(options);
    EXPECT_TRUE(object) << object.error().message;
    const auto loaded = object->load();
    EXPECT_TRUE(loaded) << loaded.error().message;
    return text_.str();
  }

 private:
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
  std::ostringstream text_;
};

TEST_F(LibbpfMessagesTest, WarningsOfALoadThatSucceedsAreLoggedUntilTheyAreKnown) {
  EXPECT_EQ(load(0), "");
  const std::string first = load(1);
  EXPECT_TRUE(
      first.starts_with("warning: loading BPF object 'complaining' succeeded, but libbpf warns: libbpf: "))
      << first;
  EXPECT_NE(first.find("/no/such/object.o: No such file"), std::string::npos) << first;
  EXPECT_EQ(std::count(first.begin(), first.end(), '\n'), 1) << first;
  EXPECT_EQ(load(1), "") << "it is known";
  const std::string other = load(2);
  EXPECT_NE(other.find("; libbpf: "), std::string::npos) << other;
  EXPECT_EQ(std::count(other.begin(), other.end(), '\n'), 1) << "one line of the log: " << other;
}

}  // namespace
}  // namespace sluice::datapath
