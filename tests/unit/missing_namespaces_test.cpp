// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/missing_namespaces.h"

#include <gmock/gmock.h>

#include <memory>

namespace sluice::controller {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

void put_policy(policy::Cluster& cluster, const std::string& ns, const std::string& name) {
  auto policy = std::make_shared<model::NetworkPolicy>();
  policy->ns = ns;
  policy->name = name;
  cluster.policies[ns + "/" + name] = policy;
}

TEST(MissingNamespaces, APolicyOfNoNamespaceIsToldOnceAndListedUntilThereIsOne) {
  const std::string told = "NetworkPolicy shopp/deny: Namespace shopp does not exist; is its name misspelt?";
  policy::Cluster cluster;
  cluster.namespaces["shop"].name = "shop";
  put_policy(cluster, "shop", "deny");
  put_policy(cluster, "shopp", "deny");
  MissingNamespaces missing;
  EXPECT_THAT(missing.look(cluster), IsEmpty()) << "its Namespace may be on its way";
  EXPECT_THAT(missing.told(), IsEmpty());
  EXPECT_THAT(missing.look(cluster), ElementsAre(told));
  EXPECT_THAT(missing.look(cluster), IsEmpty()) << "told already";
  EXPECT_THAT(missing.told(), ElementsAre(told));
  cluster.namespaces["shopp"].name = "shopp";
  EXPECT_THAT(missing.look(cluster), IsEmpty());
  EXPECT_THAT(missing.told(), IsEmpty());
  cluster.namespaces.erase("shopp");
  EXPECT_THAT(missing.look(cluster), IsEmpty());
  EXPECT_THAT(missing.look(cluster), ElementsAre(told)) << "gone again: told again";
  cluster.policies.erase("shopp/deny");
  EXPECT_THAT(missing.look(cluster), IsEmpty());
  EXPECT_THAT(missing.told(), IsEmpty());
}

TEST(MissingNamespaces, ANamespaceThatComesAnInstantLaterIsNotMissed) {
  policy::Cluster cluster;
  put_policy(cluster, "shop", "deny");
  MissingNamespaces missing;
  EXPECT_THAT(missing.look(cluster), IsEmpty());
  cluster.namespaces["shop"].name = "shop";
  EXPECT_THAT(missing.look(cluster), IsEmpty());
  cluster.namespaces.erase("shop");
  EXPECT_THAT(missing.look(cluster), IsEmpty());
}

}  // namespace
}  // namespace sluice::controller
