// SPDX-License-Identifier: Apache-2.0
// Objects mean what the API server and kubectl take them to mean, and what is not heeded is told.
#include <gtest/gtest.h>

#include "daemon/source/yaml/convert.h"
#include "daemon/source/yaml/file.h"

namespace sluice {
namespace {

TEST(Meaning, AddressesAndCidrsAreWhatTheApiServerReads) {
  const auto is = [](const char* text, const char* meant) {
    const auto read = Prefix::parse(text);
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(read->to_string(), meant) << text;
  };
  is("192.0.002.0/24", "192.0.2.0/24");
  is("010.000.0.00/08", "10.0.0.0/8");
  is("192.0.2.10/24", "192.0.2.0/24");
  is("::ffff:192.0.2.0/120", "192.0.2.0/24");
  is("::ffff:192.0.002.9/128", "192.0.2.9/32");
  is("::ffff:c000:200/96", "0.0.0.0/0");
  EXPECT_FALSE(Prefix::parse("::ffff:10.0.0.0/8")->is_v4()) << "eight bits of an IPv6 address";
  EXPECT_FALSE(Prefix::parse("::ffff:10.0.0.0/8")->contains(*Prefix::parse("10.0.0.0/8")) &&
               Prefix::parse("::ffff:10.0.0.0/8")->is_v4());
  for (const char* bad : {"192.0.2/24", "192.0.0256.0/24", "192.0..0/24", "0x10.0.0.0/8", "192.0.2.0/33",
                          "::ffff:192.0.2.0/129", "192.0.2.0.1/24", ".0.0.0/8"})
    EXPECT_FALSE(Prefix::parse(bad)) << bad;
}

TEST(Meaning, YamlScalarsAreWhatKubectlReads) {
  const auto read = [](const std::string& value) {
    const auto documents = source::read_documents("a: " + value + "\n", false);
    return documents ? documents->front().json["a"] : nlohmann::json("an error");
  };
  for (const auto& [text, meant] : std::map<std::string, nlohmann::json>{{"0120", 80},
                                                                         {"0o120", 80},
                                                                         {"0b101", 5},
                                                                         {"0x1F", 31},
                                                                         {"1_000", 1000},
                                                                         {"-010", -8},
                                                                         {"+80", 80},
                                                                         {"0", 0},
                                                                         {"00", 0},
                                                                         {"089", 89.0},
                                                                         {"'0120'", "0120"},
                                                                         {"yes", true},
                                                                         {"off", false},
                                                                         {"'on'", "on"},
                                                                         {"1--2", "1--2"},
                                                                         {"_1", "_1"}})
    EXPECT_EQ(read(text), meant) << text;
}

TEST(Meaning, AnObjectThatSomebodyMayRelyOnIsToldIfItIsNotHeeded) {
  const auto problems = [](const std::string& api_version, const std::string& kind) {
    source::File file("a.yaml");
    file.update("apiVersion: " + api_version + "\nkind: " + kind + "\nmetadata: {name: x}\n");
    EXPECT_TRUE(file.known()) << "it says nothing that is ours";
    return file.problems();
  };
  for (const auto& [api_version, kind] : std::vector<std::pair<std::string, std::string>>{
           {"networking.k8s.io/v1", "networkPolicy"},
           {"cilium.io/v2", "CiliumNetworkPolicy"},
           {"policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"},
           {"crd.projectcalico.org/v1", "NetworkPolicy"},
           {"v1", "pod"}}) {
    const auto told = problems(api_version, kind);
    ASSERT_EQ(told.size(), 1u) << kind;
    EXPECT_TRUE(told[0].starts_with("a.yaml:1: " + kind + " of " + api_version)) << told[0];
  }
  EXPECT_TRUE(problems("apps/v1", "Deployment").empty());
}

}  // namespace
}  // namespace sluice
