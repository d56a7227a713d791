// SPDX-License-Identifier: Apache-2.0
// The capability `bandwidth`: what the runtime may say, and what is refused. With real links:
// tests/netns/cni_add_test.py; with real traffic: tests/netns/cni_bandwidth_test.py.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cni/bandwidth.h"
#include "cni/config.h"
#include "daemon/server/api.h"

namespace sluice::cni {
namespace {

using nlohmann::json;

// As it is read from text: there a number without a sign is another type than in an initializer list.
json document_of(const json& bandwidth) {
  return json::parse(json{{"runtimeConfig", {{"bandwidth", bandwidth}}}}.dump());
}

TEST(CniBandwidth, AbsentNullAndZeroAreNoLimit) {
  const std::vector<json> documents{
      json::object(),
      {{"runtimeConfig", nullptr}},
      {{"runtimeConfig", json::object()}},
      {{"runtimeConfig", {{"portMappings", json::array()}}}},
      document_of(nullptr),
      document_of(json::object()),
      document_of({{"ingressRate", 0}, {"ingressBurst", 0}, {"egressRate", 0}, {"egressBurst", nullptr}})};
  for (const auto& document : documents) {
    const auto bandwidth = read_bandwidth(document);
    ASSERT_TRUE(bandwidth) << document;
    EXPECT_FALSE(bandwidth->ingress) << document;
    EXPECT_FALSE(bandwidth->egress) << document;
  }
}

TEST(CniBandwidth, BitsBecomeBytesForEachDirectionByItself) {
  // A burst of 2^32-1 is what runtimes send for the annotations of Kubernetes.
  const auto both = read_bandwidth(document_of({{"ingressRate", 8000000},
                                                {"ingressBurst", 4294967295U},
                                                {"egressRate", 1000},
                                                {"egressBurst", 16000}}));
  ASSERT_TRUE(both);
  EXPECT_EQ(both->ingress->bytes_per_s, 1000000U);
  EXPECT_EQ(both->ingress->burst_bytes, 536870911U);
  EXPECT_EQ(both->egress->bytes_per_s, 125U);
  EXPECT_EQ(both->egress->burst_bytes, 2000U);
  const auto one =
      read_bandwidth(document_of({{"egressRate", 1000000000000000}, {"egressBurst", 34359738360}}));
  ASSERT_TRUE(one) << one.error().msg;
  EXPECT_FALSE(one->ingress);
  EXPECT_EQ(one->egress->bytes_per_s, 125000000000000U);
  EXPECT_EQ(one->egress->burst_bytes, 4294967295U);
}

// containerd's go-cni has no names for JSON.
TEST(CniBandwidth, ReadsTheFieldNamesOfContainerd) {
  const auto both = read_bandwidth(
      document_of({{"IngressRate", 8000}, {"IngressBurst", 8000}, {"EgressRate", 0}, {"EgressBurst", 0}}));
  ASSERT_TRUE(both);
  ASSERT_TRUE(both->ingress);
  EXPECT_EQ(both->ingress->bytes_per_s, 1000U);
  EXPECT_FALSE(both->egress);
}

TEST(CniBandwidth, WhatIsNoLimitIsRefusedByName) {
  struct Case {
    json document;
    const char* words;
  };
  const std::vector<Case> cases{
      {{{"runtimeConfig", json::array()}}, "'runtimeConfig' must be an object"},
      {document_of("8M"), "'runtimeConfig.bandwidth' must be an object"},
      {document_of({{"ingressRate", -1}, {"ingressBurst", 8000}}),
       "ingressRate' must be a whole number of bits and not -1"},
      {document_of({{"egressRate", 1000}, {"egressBurst", -8000}}),
       "egressBurst' must be a whole number of bits and not -8000"},
      {document_of({{"ingressRate", 1000.5}, {"ingressBurst", 8000}}), "not 1000.5"},
      {document_of({{"ingressRate", 1e30}, {"ingressBurst", 8000}}), "whole number of bits"},
      {document_of({{"egressRate", "1M"}, {"egressBurst", 8000}}), "not \"1M\""},
      {document_of({{"ingressRate", 1000}}), "'ingressRate' without 'ingressBurst'"},
      {document_of({{"egressBurst", 8000}}), "'egressBurst' without 'egressRate'"},
      {document_of({{"egressRate", 999}, {"egressBurst", 8000}}),
       "'egressRate' is 999 bits a second; 1000 to"},
      {document_of({{"egressRate", 1000000000000001}, {"egressBurst", 8000}}),
       "'egressRate' is 1000000000000001"},
      {document_of({{"ingressRate", 1000}, {"ingressBurst", 34359738361}}),
       "'ingressBurst' is 34359738361 bits"}};
  for (const auto& [document, words] : cases) {
    const auto bandwidth = read_bandwidth(document);
    ASSERT_FALSE(bandwidth) << document;
    EXPECT_EQ(bandwidth.error().code, server::kCniInvalidConfig);
    EXPECT_NE(bandwidth.error().msg.find(words), std::string::npos) << bandwidth.error().msg;
  }
}

// DEL undoes an ADD that was refused for its limits; GC and STATUS are about no pod.
TEST(CniBandwidth, OnlyAddAndCheckLookAtIt) {
  auto document = document_of({{"ingressRate", 1000}});
  document["name"] = "sluice";
  document["cni.dev/valid-attachments"] = json::array();
  for (const auto command : {Command::kAdd, Command::kCheck})
    EXPECT_FALSE(parse_config(document, kNewestVersion, command));
  for (const auto command : {Command::kDel, Command::kGc, Command::kStatus})
    EXPECT_TRUE(parse_config(document, kNewestVersion, command));
}

TEST(CniBandwidth, ABurstHoldsAtLeastOnePacket) {
  const Bandwidth none;
  EXPECT_TRUE(check_bursts(none, 1450));
  EXPECT_TRUE(check_bursts({RateLimit{1000, 1464}, RateLimit{1000, 1464}}, 1450));
  const auto ingress = check_bursts({RateLimit{1000, 1463}, std::nullopt}, 1450);
  ASSERT_FALSE(ingress);
  EXPECT_EQ(ingress.error().code, server::kCniInvalidConfig);
  EXPECT_EQ(ingress.error().msg, "'ingressBurst' is 11704 bits, less than one packet");
  EXPECT_NE(ingress.error().details.find("11712 bits"), std::string::npos) << ingress.error().details;
  EXPECT_FALSE(check_bursts({std::nullopt, RateLimit{1000, 1463}}, 1450));
}

}  // namespace
}  // namespace sluice::cni
