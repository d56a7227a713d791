// SPDX-License-Identifier: Apache-2.0
// Sluice is taken off all nodes: the daemons are deleted once, the pods that remove are waited for, and who
// is left is named.
#include <fmt/format.h>

#include "daemon/removal/cluster.h"
#include "tests/unit/fake_api_server.h"
#include "tests/unit/kube_source_fixture.h"

namespace sluice::removal {
namespace {

using namespace std::chrono_literals;
using source::FakeApiServer;

const std::string kDaemons = "/apis/apps/v1/namespaces/net/daemonsets/sluice";
const std::string kRemovers = "/apis/apps/v1/namespaces/net/daemonsets/sluice-removal";

class RemoveFromCluster : public source::KubeSourceWith<FakeApiServer> {
 protected:
  Result<void> remove(std::chrono::milliseconds limit = 10s) {
    return remove_from_cluster(config_of(api_), {"net", "sluice", "sluice-removal", limit, 1ms});
  }
  static FakeApiServer::Answer removers(int observed, int wanted, int ready) {
    return FakeApiServer::body(fmt::format(
        R"({{"metadata":{{"generation":2}},"spec":{{"selector":{{"matchLabels":{{"app":"r","of":"x"}}}}}},
             "status":{{"observedGeneration":{},"desiredNumberScheduled":{},"numberReady":{}}}}})",
        observed, wanted, ready));
  }
  std::size_t asked(const std::string& path) { return api_.requests(path, false).size(); }
};

TEST_F(RemoveFromCluster, DeletesTheDaemonsAndWaitsForEachNode) {
  api_.on_list(kDaemons, FakeApiServer::body("{}"));
  api_.on_list(kRemovers, removers(1, 0, 0));  // as if there were no node: not looked at yet
  api_.on_list(kRemovers, removers(2, 3, 0));
  api_.on_list(kRemovers, FakeApiServer::busy(503, "1"));
  api_.on_list(kRemovers, removers(2, 3, 2));
  api_.on_list(kRemovers, removers(2, 3, 3));
  const auto done = remove();
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_EQ(asked(kDaemons), 1u);
  EXPECT_EQ(asked(kRemovers), 5u);
}

TEST_F(RemoveFromCluster, GoesOnWhereDaemonsAreGoneAlready) {
  api_.on_list(kDaemons, FakeApiServer::body("{}", 404));
  api_.on_list(kRemovers, removers(2, 0, 0));
  const auto done = remove();
  EXPECT_TRUE(done) << done.error().message;
}

TEST_F(RemoveFromCluster, TriesAgainUntilTheDaemonsAreDeleted) {
  for (int i = 0; i < 3; ++i) api_.on_list(kDaemons, FakeApiServer::busy(503, "1"));
  api_.on_list(kDaemons, FakeApiServer::body("{}", 202));
  api_.on_list(kRemovers, removers(2, 1, 1));
  const auto done = remove();
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_EQ(asked(kDaemons), 4u);
}

TEST_F(RemoveFromCluster, NamesTheNodesThatAreLeft) {
  api_.on_list(kDaemons, FakeApiServer::body("{}"));
  for (int i = 0; i < 10000; ++i) api_.on_list(kRemovers, removers(2, 4, 1));
  api_.on_list("/api/v1/namespaces/net/pods", FakeApiServer::body(R"({"items":[
    {"metadata":{"name":"p1"},"spec":{"nodeName":"n1"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}},
    {"metadata":{"name":"p2"},"spec":{"nodeName":"n2"},"status":{"phase":"Pending"}},
    {"metadata":{"name":"p3"},"spec":{"nodeName":"n3"},"status":{"phase":"Pending","initContainerStatuses":[
      {"name":"remove-cni","state":{"terminated":{"reason":"Completed"}}},
      {"name":"remove","state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}},
    {"metadata":{"name":"p4"},"spec":{},"status":{"phase":"Pending"}}]})"));
  const auto done = remove(200ms);
  ASSERT_FALSE(done);
  const auto& message = done.error().message;
  EXPECT_NE(message.find("not removed from 3 of 4 nodes"), std::string::npos) << message;
  EXPECT_NE(message.find("n2 (pod p2, Pending), n3 (pod p3, remove: CrashLoopBackOff), a node without"),
            std::string::npos)
      << message;
  EXPECT_EQ(message.find("n1"), std::string::npos) << message;
  EXPECT_NE(message.find("--no-hooks"), std::string::npos) << message;
}

TEST_F(RemoveFromCluster, SaysWhatItMayNotDo) {
  for (int i = 0; i < 10000; ++i)
    api_.on_list(kDaemons, FakeApiServer::body(R"({"kind":"Status","message":"may not delete"})", 403));
  const auto done = remove(50ms);
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("may not delete"), std::string::npos) << done.error().message;
}

TEST_F(RemoveFromCluster, RefusesWhereNobodyRemoves) {
  api_.on_list(kDaemons, FakeApiServer::body("{}"));
  api_.on_list(kRemovers, FakeApiServer::body("{}", 404));
  EXPECT_FALSE(remove());
}

}  // namespace
}  // namespace sluice::removal
