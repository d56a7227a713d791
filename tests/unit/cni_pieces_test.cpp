// SPDX-License-Identifier: Apache-2.0
// The parts of the CNI plugin one by one: names, the daemon's answers, the queue on disk.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "cni/daemon.h"
#include "cni/deletions.h"
#include "cni/netns.h"
#include "cni/pod_network.h"
#include "cni/result_json.h"
#include "common/host_link.h"

namespace sluice::cni {
namespace {

using nlohmann::json;

TEST(HostLinkName, IsStableAndItsOwnForEachAttachment) {
  EXPECT_EQ(host_link_name("a", "eth0"), host_link_name("a", "eth0"));
  std::set<std::string> names;
  for (int i = 0; i < 5000; ++i)
    for (const char* ifname : {"eth0", "net1"}) names.insert(host_link_name(std::to_string(i), ifname));
  EXPECT_EQ(names.size(), 10000U);
  for (const auto& name : names) {
    EXPECT_LE(name.size(), 15U);
    EXPECT_TRUE(is_host_link_name(name)) << name;
  }
  // The border between the parts counts.
  EXPECT_NE(host_link_name("ab", "c"), host_link_name("a", "bc"));
}

TEST(HostLinkName, OthersAreNotTakenForOurs) {
  for (const char* name : {"", "eth0", "slu", "slu0", "sluice_host", "slu0123456789A", "slu0123456789g",
                           "slu0123456789ab", "xlu0123456789a"})
    EXPECT_FALSE(is_host_link_name(name)) << name;
}

TEST(CniPodNetwork, AnswerOfTheDaemon) {
  const json good = {{"address", "10.244.1.5/24"},     {"gateway", "10.244.1.1"},
                     {"mac", "02:53:0a:f4:01:05"},     {"mtu", 1450},
                     {"hostIfname", "slu00000000001"}, {"hostMac", "02:53:00:00:00:01"}};
  const auto network = parse_pod_network(good);
  ASSERT_TRUE(network) << network.error().details;
  EXPECT_EQ(network->address.to_string(), "10.244.1.5");
  EXPECT_EQ(network->cidr(), "10.244.1.5/24");
  EXPECT_EQ(network->gateway.to_string(), "10.244.1.1");
  EXPECT_EQ(network->mtu, 1450U);

  for (const auto& [key, value] : good.items()) {
    auto bad = good;
    bad.erase(key);
    const auto missing = parse_pod_network(bad);
    ASSERT_FALSE(missing) << key;
    EXPECT_NE(missing.error().details.find(key), std::string::npos) << missing.error().details;
    bad[key] = json::array({1});
    EXPECT_FALSE(parse_pod_network(bad)) << key;
    bad[key] = "nonsense";
    EXPECT_FALSE(parse_pod_network(bad)) << key;
  }
  EXPECT_FALSE(parse_pod_network(json::array()));
}

TEST(CniResult, ErrorSurvivesTextThatIsNotUtf8) {
  const auto text = error_result(Version::k0_4_0, {7, "bad \xff name", ""});
  const auto body = json::parse(text);
  EXPECT_EQ(body["cniVersion"], "0.4.0");
  EXPECT_EQ(body["code"], 7);
  EXPECT_FALSE(body.contains("details"));
}

TEST(CniNetworkNamespace, OnlyAnotherNetworkNamespaceWillDo) {
  for (const char* path : {"/proc/self/ns/net", "/proc/self/ns/mnt", "/dev/null", "/", "/nonexistent"}) {
    const auto opened = NetworkNamespace::open(path);
    ASSERT_FALSE(opened) << path;
    EXPECT_NE(opened.error().message.find(path), std::string::npos);
  }
}

class CniDeletions : public testing::Test {
 protected:
  CniDeletions() {
    char pattern[] = "/tmp/sluice-deletions-XXXXXX";
    folder_ = mkdtemp(pattern);
    std::filesystem::create_directories(folder_ + "/a/b/deletions");
  }
  ~CniDeletions() override { std::filesystem::remove_all(folder_); }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& each : std::filesystem::directory_iterator(folder_ + "/a/b/deletions"))
      names.push_back(each.path().filename());
    return names;
  }
  std::string folder_;
};

TEST_F(CniDeletions, AreWholeFilesNamedByTheAttachment) {
  const Deletions deletions(folder_ + "/a/b");
  const AttachmentKey key{"abc", "eth0"};
  EXPECT_FALSE(deletions.contains(key));
  for (int i = 0; i < 2; ++i) {
    const auto added = deletions.add(key);
    ASSERT_TRUE(added) << added.error().message;
    EXPECT_EQ(files(), std::vector<std::string>{"abc_eth0.json"});
  }
  std::ifstream file(folder_ + "/a/b/deletions/abc_eth0.json");
  EXPECT_EQ(json::parse(file), (json{{"containerID", "abc"}, {"ifname", "eth0"}}));
  EXPECT_TRUE(deletions.contains(key));
  EXPECT_FALSE(deletions.contains({"abc", "eth1"}));
  EXPECT_TRUE(deletions.remove(key));
  EXPECT_TRUE(deletions.remove(key));
  EXPECT_FALSE(deletions.contains(key));
}

TEST_F(CniDeletions, MakeNoFolderWhereSluiceIsNot) {
  const Deletions deletions(folder_ + "/a/b");
  const auto folder = folder_ + "/a/b/deletions";
  auto held = deletions.hold();
  ASSERT_TRUE(held) << held.error().message;
  const Fd remover(open(folder.c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_NE(flock(remover.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_TRUE(deletions.hold());  // two at a time
  held->reset();
  EXPECT_EQ(flock(remover.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(deletions.hold().error().code, ENOENT);  // about to be removed
  std::filesystem::remove(folder);
  EXPECT_EQ(deletions.hold().error().code, ENOENT);
  EXPECT_EQ(deletions.add({"abc", "eth0"}).error().code, ENOENT);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(CniDeletions, LeaveNothingHalfWhenTheyFail) {
  const AttachmentKey key{"abc", "eth0"};
  // A folder where the file should go: the last step fails.
  std::filesystem::create_directories(folder_ + "/a/b/deletions/abc_eth0.json/x");
  const auto added = Deletions(folder_ + "/a/b").add(key);
  ASSERT_FALSE(added);
  EXPECT_NE(added.error().message.find("abc_eth0.json"), std::string::npos);
  EXPECT_EQ(files(), std::vector<std::string>{"abc_eth0.json"});
  // A file where the folder should be.
  std::ofstream(folder_ + "/file");
  EXPECT_FALSE(Deletions(folder_ + "/file").add(key));
}

}  // namespace
}  // namespace sluice::cni
