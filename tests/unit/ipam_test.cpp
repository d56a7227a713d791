// SPDX-License-Identifier: Apache-2.0
#include "daemon/ipam/ipam.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

namespace sluice::ipam {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "sluice-ipam-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }
  [[nodiscard]] std::string path() const { return path_ + "/attachments"; }
  [[nodiscard]] std::vector<fs::path> files(const std::string& suffix) const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(path()))
      if (entry.path().string().ends_with(suffix)) found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::string path_;
};

Ipam reopen(const Folder& folder, const std::vector<std::string>& cidrs = {"10.1.0.0/24"}) {
  auto ipam = Ipam::open(folder.path());
  if (!ipam) throw std::runtime_error(ipam.error().message);
  std::vector<Prefix> prefixes;
  for (const auto& cidr : cidrs) prefixes.push_back(Prefix::parse(cidr).value());
  ipam->set_pod_cidrs(prefixes);
  return std::move(*ipam);
}

Attachment wanted(const std::string& container, const std::string& ifname = "eth0") {
  Attachment attachment;
  attachment.key = {container, ifname};
  attachment.netns = "/var/run/netns/" + container;
  attachment.host_ifname = "slc" + container;
  attachment.host_ifindex = 7;
  attachment.pod_namespace = "shop";
  attachment.pod_name = "front-" + container;
  attachment.pod_uid = "uid \"quoted\"\n";
  attachment.network = "sluice";
  attachment.host_ports = {{6, 8080, 80, Address::from_v4(0)}};
  model::Pod pod;
  pod.ns = attachment.pod_namespace;
  pod.name = attachment.pod_name;
  pod.uid = attachment.pod_uid;
  pod.static_uid = std::string("hash");
  pod.labels = {{"app", "front"}, {"tier", ""}};
  pod.ports = {{"dns", model::Protocol::kUdp, 53}, {"http", model::Protocol::kTcp, 8080}};
  pod.created = 1700000000;
  pod.egress_limited = true;
  pod.masquerade = false;
  attachment.last_pod = std::make_shared<const model::Pod>(pod);
  return attachment;
}

Address address(const char* text) { return Address::parse(text).value(); }

void overwrite(const fs::path& file, const std::string& content) {
  std::ofstream(file, std::ios::trunc | std::ios::binary) << content;
}

std::string content_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Ipam, AnAddressRestsBeforeItIsSomebodyElses) {
  using namespace std::chrono_literals;
  Folder folder;
  auto ipam = reopen(folder, {"10.1.0.0/29"});  // room for 10.1.0.2 to 10.1.0.6
  auto now = Pool::Clock::time_point(1h);
  ipam.set_clock([&now] { return now; });
  const auto give = [&](const std::string& container) {
    return ipam.allocate(wanted(container)).value().ipv4.to_string();
  };
  for (const char* container : {"a", "b", "c"}) (void)give(container);
  ASSERT_TRUE(ipam.release({"a", "eth0"}));
  EXPECT_EQ(give("d"), "10.1.0.5");
  EXPECT_EQ(give("e"), "10.1.0.6");
  ASSERT_TRUE(ipam.release({"e", "eth0"}));
  now += 59s;
  ASSERT_TRUE(ipam.release({"b", "eth0"}));
  now += 1s;
  EXPECT_EQ(give("f"), "10.1.0.2") << "rested for 60 s";
  EXPECT_EQ(give("g"), "10.1.0.6") << "rested, too; 10.1.0.3 would have been next in turn";
  ASSERT_TRUE(ipam.release({"c", "eth0"}));
  EXPECT_EQ(give("h"), "10.1.0.3") << "nothing has rested: the one that did for longest";
  EXPECT_EQ(give("i"), "10.1.0.4") << "a node that is nearly full still starts pods";
}

TEST(Ipam, GivesTheFirstAddressAfterTheGatewayAndRemembersTheWholeAttachment) {
  Folder folder;
  auto ipam = reopen(folder);
  const auto given = ipam.allocate(wanted("a")).value();
  EXPECT_EQ(given.ipv4.to_string(), "10.1.0.2");
  EXPECT_EQ(given.endpoint, 1u);
  EXPECT_EQ(reopen(folder).find(given.key), given);
}

TEST(Ipam, RefusesASecondAttachmentOfTheSameKey) {
  Folder folder;
  auto ipam = reopen(folder);
  ASSERT_TRUE(ipam.allocate(wanted("a")));
  EXPECT_FALSE(ipam.allocate(wanted("a")));
  EXPECT_TRUE(ipam.allocate(wanted("a", "net1")));
}

TEST(Ipam, GoesRoundSoThatAReleasedAddressRests) {
  Folder folder;
  auto ipam = reopen(folder, {"10.1.0.0/29"});  // .2 to .6
  ASSERT_EQ(ipam.capacity(), 5u);
  for (const auto* expected : {"10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.2"}) {
    const auto given = ipam.allocate(wanted("a")).value();
    EXPECT_EQ(given.ipv4.to_string(), expected);
    ASSERT_TRUE(ipam.release(given.key));
  }
}

TEST(Ipam, GoesRoundAcrossARestart) {
  Folder folder;
  {
    auto ipam = reopen(folder);
    ASSERT_TRUE(ipam.allocate(wanted("a")));
    ASSERT_TRUE(ipam.release({"a", "eth0"}));
  }
  const auto given = reopen(folder).allocate(wanted("b")).value();
  EXPECT_EQ(given.ipv4.to_string(), "10.1.0.3");
  EXPECT_EQ(given.endpoint, 2u);
}

TEST(Ipam, ADamagedCursorCostsNothing) {
  Folder folder;
  ASSERT_TRUE(reopen(folder).allocate(wanted("a")));
  for (const auto* garbage :
       {"", "x", "10.1.0.2", "10.1.0.2 99999999999", "10.1.0.2 -1", "::1 4", "10.9.9.9 4095\n"}) {
    overwrite(folder.path() + "/cursor", garbage);
    auto ipam = reopen(folder);
    const auto given = ipam.allocate(wanted("b"));
    ASSERT_TRUE(given) << garbage;
    EXPECT_NE(given->ipv4, address("10.1.0.2")) << garbage;
    ASSERT_TRUE(ipam.release(given->key));
  }
}

TEST(Ipam, UsesEveryPrefixAndNeverANetworkGatewayOrBroadcastAddress) {
  Folder folder;
  auto ipam = reopen(
      folder, {"10.1.0.0/30", "10.2.0.0/29", "10.2.0.4/30", "10.3.0.0/31", "fd00::/64", "10.2.0.0/29"});
  std::vector<std::string> given;
  for (int i = 0; i < 6; ++i)
    given.push_back(ipam.allocate(wanted(std::to_string(i))).value().ipv4.to_string());
  EXPECT_EQ(given, (std::vector<std::string>{"10.1.0.2", "10.2.0.2", "10.2.0.3", "10.2.0.4", "10.2.0.5",
                                             "10.2.0.6"}));
  EXPECT_EQ(ipam.capacity(), 6u);
}

TEST(Ipam, SaysWhatIsHeldWhenNothingIsLeft) {
  Folder folder;
  auto ipam = reopen(folder, {"10.1.0.0/30"});
  ASSERT_TRUE(ipam.allocate(wanted("a")));
  const auto refused = ipam.allocate(wanted("b"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("10.1.0.0/30: 1 of 1 are held"), std::string::npos)
      << refused.error().message;
  ASSERT_TRUE(ipam.release({"a", "eth0"}));
  EXPECT_TRUE(ipam.allocate(wanted("b")));
}

TEST(Ipam, NeedsAPrefix) {
  Folder folder;
  auto ipam = reopen(folder, {});
  const auto refused = ipam.allocate(wanted("a"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("podCIDR"), std::string::npos);
}

TEST(Ipam, EndpointIdsGoRoundAndRunOut) {
  Folder folder;
  auto ipam = reopen(folder, {"10.0.0.0/16"});
  for (std::uint32_t id = 1; id < SLUICE_MAX_ENDPOINTS; ++id)
    if (id != 3) ipam.hold(id, Address());
  EXPECT_EQ(ipam.allocate(wanted("a")).value().endpoint, 3u);
  const auto refused = ipam.allocate(wanted("b"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("4095 endpoint ids"), std::string::npos);
  ipam.unhold(2, Address());
  EXPECT_EQ(ipam.allocate(wanted("b")).value().endpoint, 2u);
}

TEST(Ipam, KeepsAddressesOutsideOfNewPrefixes) {
  Folder folder;
  const auto old = reopen(folder).allocate(wanted("a")).value();
  auto ipam = reopen(folder, {"10.9.0.0/24"});
  EXPECT_EQ(ipam.find(old.key)->ipv4, old.ipv4);
  EXPECT_EQ(ipam.allocate(wanted("b")).value().ipv4.to_string(), "10.9.0.2");
}

TEST(Ipam, UpdateKeepsAddressAndEndpoint) {
  Folder folder;
  auto ipam = reopen(folder);
  auto attachment = ipam.allocate(wanted("a")).value();
  attachment.host_ifindex = 4711;
  ASSERT_TRUE(ipam.update(attachment));
  EXPECT_EQ(reopen(folder).find(attachment.key), attachment);
  attachment.ipv4 = address("10.1.0.77");
  EXPECT_FALSE(ipam.update(attachment));
  EXPECT_FALSE(ipam.update(wanted("unknown")));
}

TEST(Ipam, ReleaseOfWhatIsNotThereIsNoError) {
  Folder folder;
  EXPECT_TRUE(reopen(folder).release({"never", "eth0"}));
}

TEST(Ipam, AnAllocationThatCannotBeWrittenIsNone) {
  Folder folder;
  auto ipam = reopen(folder);
  fs::remove_all(folder.path());
  ASSERT_FALSE(ipam.allocate(wanted("a")));
  EXPECT_FALSE(ipam.find({"a", "eth0"}));
  fs::create_directory(folder.path());
  EXPECT_EQ(ipam.allocate(wanted("a")).value().ipv4.to_string(), "10.1.0.2");
}

TEST(Ipam, RemovesWhatACrashLeftBeforeARename) {
  Folder folder;
  const auto kept = reopen(folder).allocate(wanted("a")).value();
  overwrite(folder.path() + "/10.1.0.9-9-0123456789abcdef.json.tmp", "{\"contai");
  const auto ipam = reopen(folder);
  EXPECT_TRUE(folder.files(".tmp").empty());
  EXPECT_TRUE(ipam.damaged().empty());
  EXPECT_EQ(ipam.attachments().size(), 1u);
  EXPECT_TRUE(ipam.find(kept.key));
}

TEST(Ipam, EveryFlippedBitAndEveryTruncationIsNoticed) {
  Folder folder;
  const auto given = reopen(folder, {"10.1.0.0/30"}).allocate(wanted("a")).value();
  const auto file = folder.files(".json").at(0);
  const auto good = content_of(file);
  std::vector<std::string> variants{"", good + "x"};
  for (std::size_t at = 0; at < good.size(); ++at) {
    variants.push_back(good.substr(0, at));
    auto flipped = good;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at % 8)));
    variants.push_back(flipped);
  }
  for (const auto& variant : variants) {
    overwrite(file, variant);
    auto ipam = reopen(folder, {"10.1.0.0/30"});
    ASSERT_EQ(ipam.damaged().size(), 1u) << variant;
    ASSERT_NE(ipam.damaged()[0].find("10.1.0.2"), std::string::npos);
    ASSERT_FALSE(ipam.find(given.key));
    ASSERT_FALSE(ipam.allocate(wanted("b"))) << "the address is still in use";
    ASSERT_FALSE(ipam.allocate(wanted("a"))) << "the attachment is still there";
    ASSERT_TRUE(ipam.release(given.key));  // DEL
    ASSERT_TRUE(folder.files(".corrupt").empty());
    ASSERT_TRUE(ipam.allocate(wanted("b")));
    ASSERT_TRUE(ipam.release({"b", "eth0"}));
  }
}

TEST(Ipam, ADamagedRecordStaysReservedOverRestartsUntilTheDatapathLetsGo) {
  Folder folder;
  const auto given = reopen(folder, {"10.1.0.0/30"}).allocate(wanted("a")).value();
  overwrite(folder.files(".json").at(0), "garbage");
  for (int i = 0; i < 3; ++i) {
    auto ipam = reopen(folder, {"10.1.0.0/30"});
    ASSERT_EQ(ipam.damaged().size(), 1u);
    ASSERT_EQ(ipam.damaged_records().at(0).endpoint, given.endpoint);
    ASSERT_FALSE(ipam.allocate(wanted("b")));
  }
  auto ipam = reopen(folder, {"10.1.0.0/30"});
  ipam.hold(given.endpoint, given.ipv4);
  ASSERT_TRUE(ipam.release(given.key));
  ASSERT_FALSE(ipam.allocate(wanted("b"))) << "the datapath holds it still";
  ipam.unhold(given.endpoint, given.ipv4);
  EXPECT_TRUE(ipam.allocate(wanted("b")));
  EXPECT_TRUE(reopen(folder).damaged().empty());
}

TEST(Ipam, UnholdEndsADamagedRecord) {
  Folder folder;
  const auto given = reopen(folder, {"10.1.0.0/30"}).allocate(wanted("a")).value();
  overwrite(folder.files(".json").at(0), "garbage");
  auto ipam = reopen(folder, {"10.1.0.0/30"});
  ipam.unhold(given.endpoint, given.ipv4);
  EXPECT_TRUE(folder.files(".corrupt").empty());
  EXPECT_TRUE(ipam.allocate(wanted("b")));
}

TEST(Ipam, ARecordUnderAnothersNameOrTwiceIsDamaged) {
  Folder folder;
  const auto given = reopen(folder).allocate(wanted("a")).value();
  const auto file = folder.files(".json").at(0);
  fs::copy_file(file, file.parent_path() / "10.1.0.9-9-0123456789abcdef.json");
  fs::copy_file(file, file.parent_path() / "notes.json");
  auto ipam = reopen(folder);
  EXPECT_EQ(ipam.damaged().size(), 2u);
  EXPECT_EQ(ipam.damaged_records().size(), 1u);  // the other one's name tells no address
  EXPECT_TRUE(ipam.find(given.key));
}

TEST(Ipam, ARenamedRecordIsDamaged) {
  Folder folder;
  reopen(folder).allocate(wanted("a")).value();
  const auto file = folder.files(".json").at(0);
  fs::rename(file, file.parent_path() / "10.1.0.9-9-0123456789abcdef.json");
  const auto ipam = reopen(folder);
  EXPECT_TRUE(ipam.attachments().empty());
  ASSERT_EQ(ipam.damaged_records().size(), 1u);
  EXPECT_EQ(ipam.damaged_records()[0].ipv4, address("10.1.0.9"));
}

TEST(Ipam, AFileThatCannotBeReadIsDamaged) {
  Folder folder;
  reopen(folder).allocate(wanted("a")).value();
  const auto file = folder.files(".json").at(0);
  fs::remove(file);
  fs::create_directory(file);  // read() fails even for root
  EXPECT_EQ(reopen(folder).damaged().size(), 1u);
}

TEST(Ipam, LeavesOtherFilesAlone) {
  Folder folder;
  reopen(folder).allocate(wanted("a")).value();
  overwrite(folder.path() + "/sluice.sock", "");
  overwrite(folder.path() + "/README", "");
  EXPECT_TRUE(reopen(folder).damaged().empty());
  EXPECT_TRUE(fs::exists(folder.path() + "/sluice.sock"));
}

// Random sequences with restarts and what a crash or a bad disk leaves, against a plain model: an attachment
// is found exactly as it was given, and no address or endpoint id is ever in two hands.
class IpamSequence : public testing::TestWithParam<unsigned> {};

TEST_P(IpamSequence, KeepsItsPromises) {
  Folder folder;
  std::mt19937 random(GetParam());
  const std::vector<std::string> cidrs{"10.1.0.0/28", "10.2.0.0/29"};
  std::map<AttachmentKey, Attachment> model, damaged;
  auto ipam = reopen(folder, cidrs);
  const auto pick = [&](auto& from) { return std::next(from.begin(), random() % from.size()); };
  for (int step = 0; step < 600; ++step) {
    switch (random() % 8) {
      case 0:
      case 1:
      case 2: {
        auto request = wanted(std::to_string(random() % 40));
        const bool known = model.contains(request.key) || damaged.contains(request.key);
        const bool full = model.size() + damaged.size() == ipam.capacity();
        const auto given = ipam.allocate(request);
        ASSERT_EQ(given.has_value(), !known && !full);
        if (!given) break;
        for (const auto* others : {&model, &damaged})
          for (const auto& [key, other] : *others) {
            ASSERT_NE(other.ipv4, given->ipv4);
            ASSERT_NE(other.endpoint, given->endpoint);
          }
        request.ipv4 = given->ipv4;
        request.endpoint = given->endpoint;
        for (const auto& cidr : cidrs)
          if (Prefix::parse(cidr)->contains(given->ipv4)) request.pod_cidr = *Prefix::parse(cidr);
        ASSERT_EQ(*given, request);
        model[given->key] = *given;
        break;
      }
      case 3:
      case 4: {
        const AttachmentKey key = wanted(std::to_string(random() % 40)).key;
        ASSERT_TRUE(ipam.release(key));
        model.erase(key);
        damaged.erase(key);
        break;
      }
      case 5: {
        if (model.empty()) break;
        auto& attachment = pick(model)->second;
        attachment.host_ifindex = static_cast<std::uint32_t>(random());
        ASSERT_TRUE(ipam.update(attachment));
        break;
      }
      case 6:  // kill -9 in the middle of a write
        overwrite(folder.path() + "/10.1.0.3-3-0123456789abcdef.json.tmp", std::string(random() % 50, '{'));
        ipam = reopen(folder, cidrs);
        ASSERT_TRUE(folder.files(".tmp").empty());
        break;
      case 7: {  // a bad disk, seldom
        if (model.empty() || random() % 4 != 0) break;
        const auto victim = pick(model);
        const auto files = folder.files(".json");
        const auto prefix = folder.path() + "/" + victim->second.ipv4.to_string() + "-";
        const auto file = std::find_if(files.begin(), files.end(), [&](const fs::path& path) {
          return path.string().starts_with(prefix);
        });
        ASSERT_NE(file, files.end());
        fs::resize_file(*file, random() % fs::file_size(*file));
        damaged.insert(*victim);
        model.erase(victim);
        ipam = reopen(folder, cidrs);
        break;
      }
    }
    ASSERT_EQ(ipam.attachments(), model) << "step " << step;
    ASSERT_EQ(ipam.damaged_records().size(), damaged.size());
    ASSERT_EQ(folder.files(".json").size(), model.size());
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, IpamSequence, testing::Range(0u, 12u));

}  // namespace
}  // namespace sluice::ipam
