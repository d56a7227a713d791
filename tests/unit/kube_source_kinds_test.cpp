// SPDX-License-Identifier: Apache-2.0
// Kinds that rules do not depend on: Services, EndpointSlices, ServiceCIDRs. What may not be read of them, or
// is not there, holds up no other kind.
#include <gtest/gtest.h>

#include "tests/unit/fake_api_server.h"
#include "tests/unit/kube_source_fixture.h"

namespace sluice::source {
namespace {

using model::Kind;

class KubeSourceKinds : public KubeSourceWith<FakeApiServer> {
 protected:
  bool told_error(const std::string& part) {
    return eventually([&] { return source_->status().last_error.find(part) != std::string::npos; });
  }
};

TEST_F(KubeSourceKinds, WatchesServicesAndEndpointSlices) {
  const auto service = [](const std::string& version, const std::string& spec) {
    return R"({"metadata":{"namespace":"a","name":"web","resourceVersion":")" + version + R"("},"spec":)" +
           spec + "}";
  };
  const auto slice = [](const std::string& name, const std::string& version) {
    return R"({"metadata":{"namespace":"a","name":")" + name + R"(","resourceVersion":")" + version +
           R"(","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
               "endpoints":[{"addresses":["10.1.0.2"]}],"ports":[{"name":"","port":8080}]})";
  };
  std::string one_line = slice("web-2", "9");
  std::erase(one_line, '\n');
  api_.on_list(kServices, FakeApiServer::body(list("7", service("3", R"({"clusterIP":"10.96.0.1"})"))));
  api_.on_list(kSlices, FakeApiServer::body(list("7", slice("web-1", "4"))));
  const auto services = api_.stream_on_watch(kServices);
  const auto slices = api_.stream_on_watch(kSlices);
  start();
  const model::ObjectKey web{Kind::kService, "a", "web"};
  ASSERT_TRUE(sink_.wait([&](const auto& state) { return state.synced() && state.objects.contains(web); }));
  EXPECT_EQ(sink_.state().names(Kind::kEndpointSlice), std::vector<std::string>{"web-1"});

  services->line(event("MODIFIED", service("8", R"({"clusterIP":"10.96.0.2"})")));
  EXPECT_TRUE(sink_.wait([&](const auto& state) {
    return std::get<model::Service>(state.objects.at(web)).cluster_ips ==
           std::vector{Address::parse("10.96.0.2").value()};
  }));
  // One that cannot be used leaves it as it was; a field that is new does not.
  services->line(event("MODIFIED", service("9", R"({"loadBalancerSourceRanges":["office"]})")));
  EXPECT_TRUE(sink_.wait([](const auto& state) {
    return state.rejected(
        "Service a/web: spec.loadBalancerSourceRanges[0]: 'office' is not a CIDR such as 10.0.0.0/8 or "
        "fd00::/64; "
        "what was known of it before stays in force");
  }));
  EXPECT_EQ(std::get<model::Service>(sink_.state().objects.at(web)).cluster_ips.size(), 1U);
  services->line(
      event("MODIFIED", service("10", R"({"clusterIP":"10.96.0.3","trafficDistribution":"PreferClose"})")));
  EXPECT_TRUE(sink_.wait([&](const auto& state) {
    return std::get<model::Service>(state.objects.at(web)).cluster_ips ==
           std::vector{Address::parse("10.96.0.3").value()};
  }));
  services->line(event("DELETED", service("11", "{}")));
  EXPECT_TRUE(sink_.wait([&](const auto& state) { return !state.objects.contains(web); }));

  slices->line(event("ADDED", one_line));
  EXPECT_TRUE(sink_.wait([](const auto& state) { return state.has(Kind::kEndpointSlice, "web-2"); }));
  slices->line(event("DELETED", one_line));
  EXPECT_TRUE(sink_.wait([](const auto& state) { return !state.has(Kind::kEndpointSlice, "web-2"); }));
  EXPECT_TRUE(sink_.state().has(Kind::kEndpointSlice, "web-1"));
}

TEST_F(KubeSourceKinds, WatchesServiceCidrs) {
  const auto range = [](const std::string& name, const std::string& version, const std::string& cidr) {
    return R"({"metadata":{"name":")" + name + R"(","resourceVersion":")" + version +
           R"("},"spec":{"cidrs":[")" + cidr + R"("]}})";
  };
  api_.on_list(kServiceCidrs, FakeApiServer::body(list("7", range("kubernetes", "3", "10.96.0.0/16"))));
  const auto stream = api_.stream_on_watch(kServiceCidrs);
  start();
  const model::ObjectKey key{Kind::kServiceCidr, "", "kubernetes"};
  ASSERT_TRUE(sink_.wait([&](const auto& state) { return state.synced() && state.objects.contains(key); }));
  EXPECT_EQ(std::get<model::ServiceCidr>(sink_.state().objects.at(key)).cidrs,
            std::vector{*Prefix::parse("10.96.0.0/16")});
  stream->line(event("ADDED", range("more", "8", "10.97.0.0/16")));
  EXPECT_TRUE(sink_.wait([](const auto& state) { return state.has(Kind::kServiceCidr, "more"); }));
  stream->line(event("DELETED", range("kubernetes", "9", "10.96.0.0/16")));
  EXPECT_TRUE(sink_.wait([](const auto& state) { return !state.has(Kind::kServiceCidr, "kubernetes"); }));
}

const auto kNoSuchKind = FakeApiServer::body("404 page not found", 404);

TEST_F(KubeSourceKinds, AnApiServerWithoutServiceCidrsHasNoneAndIsComplete) {
  api_.on_list(kServiceCidrs, kNoSuchKind);
  start();
  EXPECT_TRUE(sink_.wait([](const auto& state) { return state.synced(); }));
  EXPECT_TRUE(eventually([this] { return source_->status().connected; }));
  EXPECT_EQ(source_->status().errors, 0U);
  EXPECT_EQ(source_->status().last_error, "");
  EXPECT_TRUE(api_.requests(kServiceCidrs, true).empty()) << "there is nothing to watch";
}

// One of several API servers is older, or is wrong.
TEST_F(KubeSourceKinds, ServiceCidrsThatWereKnownAreNotTakenAwayByA404NorAreOtherKinds) {
  api_.on_list(kServiceCidrs,
               FakeApiServer::body(list("7", R"({"metadata":{"name":"kubernetes","resourceVersion":"3"}})")));
  api_.on_watch(kServiceCidrs, kNoSuchKind);
  for (int i = 0; i < 1000; ++i) {
    api_.on_list(kServiceCidrs, kNoSuchKind);
    api_.on_list(kSlices, kNoSuchKind);
  }
  start();
  EXPECT_TRUE(api_.wait_for(kServiceCidrs, false, 3)) << "asked for on and on";
  EXPECT_TRUE(api_.wait_for(kSlices, false, 3));
  EXPECT_TRUE(sink_.state().has(Kind::kServiceCidr, "kubernetes"));
  EXPECT_FALSE(sink_.state().replaced.contains(Kind::kEndpointSlice));
  EXPECT_FALSE(source_->status().connected);
}

// After an upgrade with the ClusterRole of a version that knew of no Services.
TEST_F(KubeSourceKinds, KindsThatMayNotBeReadHoldUpNoOtherOnes) {
  for (int i = 0; i < 1000; ++i) {
    for (const auto& path : {kServices, kSlices})
      api_.on_list(path, FakeApiServer::body(R"({"kind":"Status","message":"cannot list resource"})", 403));
  }
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3"))));
  const auto stream = api_.stream_on_watch(kPods);
  start();
  const auto told = [](const auto& state) {
    return state.replaced.contains(Kind::kNode) && state.replaced.contains(Kind::kNamespace) &&
           state.replaced.contains(Kind::kPod) && state.replaced.contains(Kind::kNetworkPolicy);
  };
  EXPECT_TRUE(sink_.wait(told));
  EXPECT_TRUE(told_error("Service: list: http://127.0.0.1:"));
  EXPECT_TRUE(told_error("HTTP 403: cannot list resource (bind the ClusterRole"));
  stream->line(event("ADDED", pod("two", "8")));
  EXPECT_TRUE(sink_.wait([](const auto& state) { return state.has(Kind::kPod, "two"); }));
  // Asked for on and on: once the role is there, no restart is needed.
  EXPECT_TRUE(api_.wait_for(kServices, false, 3));
  EXPECT_TRUE(api_.wait_for(kSlices, false, 3));
  EXPECT_FALSE(sink_.state().replaced.contains(Kind::kService));
  EXPECT_FALSE(sink_.state().replaced.contains(Kind::kEndpointSlice));
  EXPECT_FALSE(source_->status().connected);
}

}  // namespace
}  // namespace sluice::source
