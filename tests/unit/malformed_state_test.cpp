// SPDX-License-Identifier: Apache-2.0
// Records of attachments that are damaged in ways that accidents do not make too: whatever they say, no
// address comes out that the file's name does not have, and the one that it has stays reserved.
#include <gtest/gtest.h>

#include <filesystem>

#include "daemon/ipam/record.h"
#include "tests/unit/corpus.h"

namespace sluice::ipam {
namespace {

namespace fs = std::filesystem;

const std::string kName = "10.1.0.2-1-" + key_digest({"a1", "eth0"}) + ".json";

class MalformedState : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "sluice-state-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  [[nodiscard]] Ipam open() const {
    auto ipam = Ipam::open(folder_.string());
    EXPECT_TRUE(ipam) << ipam.error().message;
    ipam->set_pod_cidrs({*Prefix::parse("10.1.0.0/30")});  // room for 10.1.0.2 alone
    return std::move(*ipam);
  }
  // Nothing was made of the record, its address is still taken, and DEL gives it back.
  void expect_set_aside(const std::string& what) {
    SCOPED_TRACE(what);
    auto ipam = open();
    EXPECT_TRUE(ipam.attachments().empty());
    ASSERT_EQ(ipam.damaged().size(), 1u);
    EXPECT_NE(ipam.damaged()[0].find("10.1.0.2-1-"), std::string::npos);
    EXPECT_NE(
        ipam.damaged()[0].find("address 10.1.0.2 and endpoint id 1 stay reserved until the pod is deleted"),
        std::string::npos)
        << ipam.damaged()[0];
    Attachment wanted;
    wanted.key = {"b2", "eth0"};
    EXPECT_FALSE(ipam.allocate(wanted)) << "the address is somebody's";
    EXPECT_TRUE(ipam.release({"a1", "eth0"}));
    EXPECT_EQ(ipam.allocate(wanted).value().ipv4.to_string(), "10.1.0.2");
    EXPECT_TRUE(ipam.release(wanted.key));
  }
  fs::path folder_;
};

TEST_F(MalformedState, TheGoodRecordIsRead) {
  write(kName, corpus::read("state", "record.json"));
  const auto ipam = open();
  ASSERT_EQ(ipam.attachments().size(), 1u);
  EXPECT_EQ(ipam.attachments().begin()->second.ipv4.to_string(), "10.1.0.2");
  EXPECT_TRUE(ipam.damaged().empty());
}

TEST_F(MalformedState, EveryFileOfTheCorpusIsSetAside) {
  const auto bad = corpus::files("state", "bad-");
  EXPECT_GE(bad.size(), 10u);
  for (const auto& file : bad) {
    write(kName, corpus::read("state", file));
    expect_set_aside(file);
  }
}

// Every bit, every length, every byte left out and every byte doubled: one file each is enough in the
// folder's own test (ipam_test.cpp); here it is the reader alone.
TEST(MalformedRecord, NoChangeOfABitGoesUnnoticed) {
  const auto good = corpus::read("state", "record.json");
  ASSERT_TRUE(decode(good));
  for (std::size_t at = 0; at < good.size(); ++at) {
    EXPECT_FALSE(decode(good.substr(0, at))) << at;
    EXPECT_FALSE(decode(good.substr(0, at) + good.substr(at + 1))) << at;
    EXPECT_FALSE(decode(good.substr(0, at + 1) + good.substr(at))) << at;
    for (int bit = 0; bit < 8; ++bit) {
      auto flipped = good;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      EXPECT_FALSE(decode(flipped)) << at << " bit " << bit;
    }
  }
  EXPECT_FALSE(decode(good + good));
  EXPECT_FALSE(decode(good + std::string(1, '\0')));
}

TEST_F(MalformedState, NamesThatTellNoAddressReserveNone) {
  const char* const names[] = {"json.json",
                               "10.1.0.2.json",
                               "10.1.0.2-1.json",
                               "10.1.0.2-1-.json",
                               "10.1.0.2-0-0123456789abcdef.json",
                               "10.1.0.2-4096-0123456789abcdef.json",
                               "10.1.0.2-1x-0123456789abcdef.json",
                               "10.1.0.2--1-0123456789abcdef.json",
                               "10.1.0.256-1-0123456789abcdef.json",
                               "fd00::2-1-0123456789abcdef.json",
                               "10.1.0.2-1-0123456789abcde.json"};
  for (const auto* name : names) {
    SCOPED_TRACE(name);
    EXPECT_FALSE(parse_name(name));
    write(name, corpus::read("state", "record.json"));
    auto ipam = open();
    EXPECT_TRUE(ipam.attachments().empty());
    ASSERT_EQ(ipam.damaged().size(), 1u);
    EXPECT_NE(
        ipam.damaged()[0].find("its name tells no address, so none is reserved. Look at it and delete it"),
        std::string::npos);
    fs::remove(folder_ / (std::string(name) + ".corrupt"));
    for (const auto& entry : fs::directory_iterator(folder_)) fs::remove(entry.path());
  }
}

}  // namespace
}  // namespace sluice::ipam
