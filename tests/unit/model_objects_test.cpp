// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>

#include "daemon/model/objects.h"

namespace sluice::model {
namespace {

using Operator = Requirement::Operator;

TEST(LabelSelector, MatchesWhatKubernetesSaysItMatches) {
  const Labels labels{{"app", "front"}, {"tier", ""}};
  struct Case {
    const char* says;
    LabelSelector selector;
    bool matches;
  };
  const std::vector<Case> cases{
      {"the empty selector matches everything", {}, true},
      {"an equal label", {{{"app", "front"}}, {}}, true},
      {"another value", {{{"app", "back"}}, {}}, false},
      {"an absent label", {{{"env", ""}}, {}}, false},
      {"an empty value is a value", {{{"tier", ""}}, {}}, true},
      {"all labels must be equal", {{{"app", "front"}, {"tier", "back"}}, {}}, false},
      {"In, listed", {{}, {{"app", Operator::kIn, {"back", "front"}}}}, true},
      {"In, not listed", {{}, {{"app", Operator::kIn, {"back"}}}}, false},
      {"In, absent", {{}, {{"env", Operator::kIn, {""}}}}, false},
      {"NotIn, listed", {{}, {{"app", Operator::kNotIn, {"front"}}}}, false},
      {"NotIn, not listed", {{}, {{"app", Operator::kNotIn, {"back"}}}}, true},
      {"NotIn, absent", {{}, {{"env", Operator::kNotIn, {"prod"}}}}, true},
      {"Exists, with an empty value", {{}, {{"tier", Operator::kExists, {}}}}, true},
      {"Exists, absent", {{}, {{"env", Operator::kExists, {}}}}, false},
      {"DoesNotExist, absent", {{}, {{"env", Operator::kDoesNotExist, {}}}}, true},
      {"DoesNotExist, there", {{}, {{"app", Operator::kDoesNotExist, {}}}}, false},
      {"labels and expressions must both match",
       {{{"app", "front"}}, {{"app", Operator::kExists, {}}, {"tier", Operator::kIn, {"x"}}}},
       false},
  };
  for (const auto& each : cases) EXPECT_EQ(each.selector.matches(labels), each.matches) << each.says;
}

TEST(LabelSelector, ReadsAsKubectlWritesIt) {
  EXPECT_EQ(LabelSelector().to_string(), "<all>");
  const LabelSelector selector{{{"a", "b"}, {"c", "d"}},
                               {{"e", Operator::kDoesNotExist, {}},
                                {"f", Operator::kExists, {}},
                                {"g", Operator::kIn, {"1", "2"}},
                                {"h", Operator::kNotIn, {"3"}}}};
  EXPECT_EQ(selector.to_string(), "a=b,c=d,!e,f,g in (1,2),h notin (3)");
}

TEST(ObjectKey, NamesTheObject) {
  NetworkPolicy policy;
  policy.ns = "shop";
  policy.name = "allow-front";
  EXPECT_EQ(to_string(key_of(policy)), "NetworkPolicy shop/allow-front");
  Pod pod;
  pod.ns = "shop";
  pod.name = "front";
  EXPECT_EQ(to_string(key_of(pod)), "Pod shop/front");
  EXPECT_EQ(to_string(key_of(Namespace{"shop", {}})), "Namespace shop");
  EXPECT_EQ(to_string(key_of(Node{"worker", {}, {}, {}})), "Node worker");
  Service service;
  service.ns = "shop";
  service.name = "web";
  EXPECT_EQ(to_string(key_of(service)), "Service shop/web");
  EndpointSlice slice;
  slice.ns = "shop";
  slice.name = "web-x7k2p";
  EXPECT_EQ(to_string(key_of(slice)), "EndpointSlice shop/web-x7k2p");
  EXPECT_NE(key_of(Namespace{"x", {}}), key_of(Node{"x", {}, {}, {}}));
}

// They say what a map with the same content says.
TEST(Labels, AreAMap) {
  std::mt19937 random(1);
  std::vector<std::pair<Labels, Labels::Map>> made;
  for (int round = 0; round < 300; ++round) {
    Labels::Map map;
    for (std::size_t i = random() % 6; i > 0; --i)
      map.insert_or_assign(std::string(random() % 3, 'k') + std::to_string(random() % 3),
                           std::string(random() % 40, 'v'));
    const Labels labels(map);
    EXPECT_EQ(labels.map(), map);
    EXPECT_EQ(labels.size(), map.size());
    EXPECT_EQ(labels.empty(), map.empty());
    for (const auto* key : {"0", "1", "k0", "k2", "kk1", "", "kkk", "~"}) {
      const auto expected = map.find(key);
      EXPECT_EQ(labels.contains(key), expected != map.end());
      if (expected != map.end()) {
        EXPECT_EQ(labels.at(key), expected->second);
      } else {
        EXPECT_THROW(static_cast<void>(labels.at(key)), std::out_of_range);
      }
    }
    made.emplace_back(labels, map);
  }
  for (std::size_t i = 1; i < made.size(); ++i) {
    const auto& [a, map_a] = made[i - 1];
    const auto& [b, map_b] = made[i];
    EXPECT_EQ(a == b, map_a == map_b);
    EXPECT_EQ(a <=> b, map_a <=> map_b);
  }
}

TEST(Labels, CopiesShareTheirMemoryUntilOneChanges) {
  Labels one{{"app", "web"}};
  EXPECT_TRUE(one.alone());
  Labels copy = one;
  EXPECT_TRUE(copy.shares_with(one));
  EXPECT_FALSE(one.alone());
  copy.set("tier", "front");
  copy.set("app", "api");
  EXPECT_EQ(copy, (Labels{{"app", "api"}, {"tier", "front"}}));
  EXPECT_EQ(one, (Labels{{"app", "web"}}));
}

TEST(ContainerPorts, AreSortedAndDistinct) {
  const ContainerPort http{"http", Protocol::kTcp, 80}, dns{"dns", Protocol::kUdp, 53};
  const ContainerPorts ports{http, dns, http};
  EXPECT_EQ(ports.list(), (ContainerPorts::List{dns, http}));
  EXPECT_EQ(ports, (ContainerPorts{dns, http}));
  EXPECT_LT((ContainerPorts{dns}), (ContainerPorts{http}));
  EXPECT_EQ(ContainerPorts(), ContainerPorts(ContainerPorts::List()));
  EXPECT_TRUE(ContainerPorts().empty());
}

}  // namespace
}  // namespace sluice::model
