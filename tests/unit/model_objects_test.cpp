// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sluice::model
