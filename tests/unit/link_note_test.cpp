// SPDX-License-Identifier: Apache-2.0
// What a pod's link says about its attachment comes back as it was, and nothing else is taken for it.
#include "daemon/ipam/link_note.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/host_link.h"

namespace sluice::ipam {
namespace {

Attachment attachment() {
  Attachment made;
  made.key = {"c0ffee", "eth0"};
  made.endpoint = 7;
  made.ipv4 = Address::from_v4(0x0a530102);
  made.host_ifname = host_link_name("c0ffee", "eth0");
  made.host_ifindex = 12;
  made.network = "sluice";
  made.pod_namespace = "shop";
  made.pod_name = "web-0";
  made.pod_uid = "u-1";
  return made;
}

Link link_of(const Attachment& attachment, const std::string& alias) {
  Link link;
  link.name = attachment.host_ifname;
  link.index = static_cast<int>(attachment.host_ifindex);
  link.alias = alias;
  return link;
}

TEST(LinkNote, TellsTheAttachment) {
  auto wanted = attachment();
  EXPECT_EQ(note_of(wanted), "sluice 10.83.1.2 7 c0ffee eth0 sluice shop/web-0 u-1 0");
  auto noted = read_note(link_of(wanted, note_of(wanted)));
  ASSERT_TRUE(noted);
  EXPECT_TRUE(noted->pod_known);
  EXPECT_EQ(noted->attachment, wanted);
  wanted.pod_namespace = wanted.pod_name = wanted.pod_uid = wanted.network = "";
  noted = read_note(link_of(wanted, note_of(wanted)));
  ASSERT_TRUE(noted);
  EXPECT_TRUE(noted->pod_known) << "it is none";
  EXPECT_EQ(noted->attachment, wanted);
}

// Else a container whose pod is not known would be taken for one that is no pod, to which no policy applies.
TEST(LinkNote, APodForWhichThereIsNoRoomIsUnknown) {
  auto wanted = attachment();
  wanted.pod_name = std::string(253, 'p');
  const auto note = note_of(wanted);
  EXPECT_LE(note.size(), kNoteMost);
  const auto noted = read_note(link_of(wanted, note));
  ASSERT_TRUE(noted);
  EXPECT_FALSE(noted->pod_known);
  EXPECT_EQ(noted->attachment.key, wanted.key);
}

TEST(LinkNote, NothingElseIsTakenForOne) {
  const auto wanted = attachment();
  const auto note = note_of(wanted);
  const std::vector<std::string> others{
      "", "uplink of rack 4", note + " more", note.substr(0, note.rfind(' ')),
      "sluice 10.83.1.300 7 c0ffee eth0 sluice shop/web-0 u-1 0",
      "sluice 10.83.1.2 0 c0ffee eth0 sluice shop/web-0 u-1 0",
      "sluice 10.83.1.2 70000 c0ffee eth0 sluice shop/web-0 u-1 0",
      "sluice 10.83.1.2 7 c0ffee eth0 sluice web-0 u-1 0",
      "sluice 10.83.1.2 7 another eth0 sluice shop/web-0 u-1 0"};
  for (const auto& alias : others)
    EXPECT_FALSE(read_note(link_of(wanted, alias))) << alias;
  EXPECT_FALSE(has_note(link_of(wanted, "uplink of rack 4")));
  EXPECT_TRUE(has_note(link_of(wanted, note)));
}

}  // namespace
}  // namespace sluice::ipam
