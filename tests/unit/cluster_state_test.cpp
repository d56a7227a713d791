// SPDX-License-Identifier: Apache-2.0
// Services and EndpointSlices in the cluster's state: which Services changed, and that rules neither depend
// on them nor wait for them.
#include "daemon/controller/cluster_state.h"

#include <gtest/gtest.h>

namespace sluice::controller {
namespace {

using model::Kind;
using Keys = std::set<std::string>;

model::Service service(const std::string& name, std::uint16_t port = 80) {
  model::Service made;
  made.ns = "shop";
  made.name = name;
  made.ports = {{"", model::Protocol::kTcp, port, 0}};
  return made;
}

model::EndpointSlice slice(const std::string& name, const std::string& of, std::uint16_t port = 8080) {
  model::EndpointSlice made;
  made.ns = "shop";
  made.name = name;
  made.service = of;
  made.ports = {{"", model::Protocol::kTcp, port}};
  return made;
}

class ClusterStateTest : public testing::Test {
 protected:
  void replace(Kind kind, std::vector<model::Object> objects) {
    source::FullState full;
    full.emplace(kind, std::move(objects));
    state_.apply(std::move(full));
  }
  void put(model::Object object) { state_.apply(std::move(object)); }
  void remove(Kind kind, const std::string& name) { state_.apply(model::ObjectKey{kind, "shop", name}); }
  // Their names, in order.
  std::vector<std::string> slices_of(const std::string& key) {
    std::vector<std::string> names;
    for (const auto& [name, known] : state_.slices_of(key)) {
      EXPECT_EQ(known->ns + "/" + known->name, name);
      names.push_back(known->name);
    }
    return names;
  }
  void TearDown() override { EXPECT_TRUE(state_.take_changes().empty()) << "rules do not depend on these"; }

  ClusterState state_;
};

using Names = std::vector<std::string>;

TEST_F(ClusterStateTest, RulesWaitForFourKindsAndServicesForFour) {
  replace(Kind::kNode, {});
  replace(Kind::kService, {});
  EXPECT_FALSE(state_.services_synced());
  replace(Kind::kEndpointSlice, {});
  EXPECT_FALSE(state_.services_synced()) << "or one would have a cluster IP as its external IP for a while";
  replace(Kind::kServiceCidr, {});
  EXPECT_TRUE(state_.services_synced());
  EXPECT_FALSE(state_.synced());

  ClusterState old_role;  // that may not read Services
  for (const auto kind : {Kind::kNode, Kind::kNamespace, Kind::kPod, Kind::kNetworkPolicy}) {
    EXPECT_FALSE(old_role.synced());
    old_role.apply(source::FullState{{kind, {}}});
  }
  EXPECT_TRUE(old_role.synced());
  EXPECT_FALSE(old_role.services_synced());
}

TEST_F(ClusterStateTest, AServiceThatChangedIsTold) {
  put(service("web"));
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/web"}));
  put(service("web"));
  EXPECT_EQ(state_.take_service_changes(), Keys()) << "the same again";
  put(service("web", 81));
  put(service("db"));
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/db", "shop/web"}));
  EXPECT_EQ(state_.services().at("shop/web")->ports[0].port, 81);
  remove(Kind::kService, "db");
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/db"}));
  EXPECT_FALSE(state_.services().contains("shop/db"));
  remove(Kind::kService, "db");
  EXPECT_EQ(state_.take_service_changes(), Keys());
}

TEST_F(ClusterStateTest, ASliceTellsOfItsServiceBeforeAndAfter) {
  put(slice("web-1", "web"));
  put(slice("web-2", "web"));
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/web"})) << "though the Service is not known yet";
  EXPECT_EQ(slices_of("shop/web"), (Names{"web-1", "web-2"}));
  put(slice("web-1", "web"));
  EXPECT_EQ(state_.take_service_changes(), Keys()) << "the same again";
  put(slice("web-1", "web", 9090));
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/web"}));
  EXPECT_EQ(state_.slices_of("shop/web").at("shop/web-1")->ports[0].port, 9090);

  put(slice("web-1", "db", 9090));
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/db", "shop/web"}));
  EXPECT_EQ(slices_of("shop/web"), (Names{"web-2"}));
  EXPECT_EQ(slices_of("shop/db"), (Names{"web-1"}));

  put(slice("web-1", "", 9090));
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/db"}));
  EXPECT_EQ(slices_of("shop/db"), Names());
  put(slice("web-1", "", 7070));
  EXPECT_EQ(state_.take_service_changes(), Keys()) << "of no Service";
  remove(Kind::kEndpointSlice, "web-1");
  EXPECT_EQ(state_.take_service_changes(), Keys());

  remove(Kind::kEndpointSlice, "web-2");
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/web"}));
  EXPECT_EQ(slices_of("shop/web"), Names());
  remove(Kind::kEndpointSlice, "web-2");
  EXPECT_EQ(state_.take_service_changes(), Keys());
}

TEST_F(ClusterStateTest, ASliceIsOfTheServiceInItsNamespace) {
  auto other = slice("web-1", "web", 1);
  other.ns = "staging";
  put(slice("web-1", "web"));
  put(other);
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/web", "staging/web"}));
  remove(Kind::kEndpointSlice, "web-1");
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/web"}));
  EXPECT_EQ(slices_of("staging/web"), (Names{"web-1"}));
}

TEST_F(ClusterStateTest, AFullStateTellsOfWhatItChangesAlone) {
  replace(Kind::kService, {service("a"), service("b"), service("c")});
  replace(Kind::kEndpointSlice, {slice("a-1", "a"), slice("b-1", "b"), slice("c-1", "c"), slice("none", "")});
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/a", "shop/b", "shop/c"}));
  replace(Kind::kService, {service("a"), service("b", 81), service("d")});
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/b", "shop/c", "shop/d"}));
  EXPECT_EQ(state_.services().size(), 3u);
  replace(Kind::kEndpointSlice, {slice("a-1", "a"), slice("b-1", "b", 1), slice("d-1", "d")});
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/b", "shop/c", "shop/d"}));
  EXPECT_EQ(slices_of("shop/c"), Names());
  EXPECT_EQ(slices_of("shop/d"), (Names{"d-1"}));
}

// What was handed out stays as it was.
TEST_F(ClusterStateTest, ObjectsAreValues) {
  put(service("web"));
  put(slice("web-1", "web"));
  const auto before = state_.services().at("shop/web");
  const auto slice_before = state_.slices_of("shop/web").at("shop/web-1");
  put(service("web", 81));
  put(slice("web-1", "web", 1));
  EXPECT_EQ(before->ports[0].port, 80);
  EXPECT_EQ(slice_before->ports[0].port, 8080);
  EXPECT_EQ(state_.take_service_changes(), (Keys{"shop/web"}));
}

TEST_F(ClusterStateTest, WhatRulesDependOnTouchesNoService) {
  model::Pod pod;
  pod.ns = "shop";
  pod.name = "web-0";
  put(pod);
  EXPECT_EQ(state_.take_changes().size(), 1u);
  put(model::Node{"n1", {}, {}, {}});
  EXPECT_TRUE(state_.take_nodes_changed());
  EXPECT_EQ(state_.take_service_changes(), Keys());
}

}  // namespace
}  // namespace sluice::controller
