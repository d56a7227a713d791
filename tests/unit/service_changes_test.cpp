// SPDX-License-Identifier: Apache-2.0
// Which Service has a frontend that several claim, and what the compiler tells of changes.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/service_fixture.h"

namespace sluice::service {
namespace {

using namespace words;  // NOLINT(google-build-using-namespace)

class ServiceConflicts : public ServiceCompiler {
 protected:
  static model::Service named(const std::string& name, const std::string& cluster_ip) {
    model::Service service = web();
    service.name = name;
    service.cluster_ips = ips({cluster_ip});
    return service;
  }
  static model::Service external(const std::string& name, const std::string& cluster_ip) {
    model::Service service = named(name, cluster_ip);
    service.external_ips = ips({kExternal});
    return service;
  }
};

TEST_F(ServiceConflicts, TheSmallerKeyHasItWhoeverCameFirst) {
  update(external("b", "10.96.0.2"), {on("here", "10.0.1.2")});
  EXPECT_TRUE(compiler.take_changes().warnings.empty());
  update(external("a", "10.96.0.3"), {on("here", "10.0.1.1")});
  EXPECT_EQ(at(kExternal).service, "shop/a:http");
  EXPECT_EQ(compiler.take_changes().warnings,
            std::vector<std::string>{
                "Service shop/b: 198.51.100.1:80/TCP is not served for it, Service shop/a has it"});

  update(external("c", "10.96.0.4"), {on("here", "10.0.1.3")});
  EXPECT_EQ(at(kExternal).service, "shop/a:http");
  auto changes = compiler.take_changes();
  EXPECT_EQ(changes.warnings.size(), 1U);
  EXPECT_FALSE(changes.set.contains(tcp(kExternal, 80)));

  update(external("b", "10.96.0.2"), {on("here", "10.0.1.9")});
  EXPECT_TRUE(compiler.take_changes().warnings.empty()) << "told already";

  compiler.update("shop/a", {});
  EXPECT_EQ(at(kExternal).service, "shop/b:http") << "the next takes over";
  EXPECT_EQ(outside(kExternal), "10.0.1.9:8080");
  changes = compiler.take_changes();
  EXPECT_TRUE(changes.set.contains(tcp(kExternal, 80)));
  EXPECT_EQ(changes.removed, std::vector{tcp("10.96.0.3", 80)});

  update(named("b", "10.96.0.2"), {on("here", "10.0.1.9")});
  EXPECT_EQ(at(kExternal).service, "shop/c:http");
  compiler.update("shop/c", {});
  EXPECT_FALSE(compiler.table().contains(tcp(kExternal, 80)));
}

TEST_F(ServiceConflicts, WhoIsStillWithoutItIsToldOfTheNewOwner) {
  update(external("b", "10.96.0.2"), {on("here", "10.0.1.2")});
  update(external("c", "10.96.0.3"), {on("here", "10.0.1.3")});
  update(external("d", "10.96.0.4"), {on("here", "10.0.1.4")});
  EXPECT_EQ(compiler.take_changes().warnings.size(), 2U);
  compiler.update("shop/b", {});
  EXPECT_EQ(compiler.take_changes().warnings,
            std::vector<std::string>{
                "Service shop/d: 198.51.100.1:80/TCP is not served for it, Service shop/c has it"});
}

TEST_F(ServiceConflicts, AnExternalIpTakesNothingFromAClusterIp) {
  model::Service thief = named("a", "10.96.0.9");
  thief.external_ips = ips({kClusterIp});
  update(thief, {on("here", "10.0.1.66")});
  EXPECT_EQ(at(kClusterIp).service, "shop/a:http");
  update(web(), {on("here", "10.0.1.1")});
  EXPECT_EQ(at(kClusterIp).service, "shop/web:http");
  EXPECT_FALSE(at(kClusterIp).from_outside);
}

TEST_F(ServiceConflicts, AServiceIsNotInItsOwnWay) {
  model::Service service = exposed();
  service.external_ips = ips({kBalancer, kClusterIp, kBalancer});
  service.source_ranges = {*Prefix::parse("192.0.2.0/24")};
  update(service, {on("here", "10.0.1.1")});
  EXPECT_TRUE(compiler.take_changes().warnings.empty());
  EXPECT_FALSE(at(kBalancer).source_ranges.empty()) << "the load balancer's, with its restrictions";
  EXPECT_FALSE(at(kClusterIp).from_outside);
}

TEST_F(ServiceConflicts, ProtocolsAreFrontendsOfTheirOwn) {
  model::Service other = external("b", "10.96.0.2");
  other.ports.front().protocol = Protocol::kUdp;
  update(external("a", "10.96.0.3"), {on("here", "10.0.1.1")});
  update(other, {on("here", "10.0.1.1")});
  EXPECT_TRUE(compiler.take_changes().warnings.empty());
  EXPECT_TRUE(compiler.table().contains({ip(kExternal), Protocol::kUdp, 80}));
}

TEST_F(ServiceCompiler, ChangesNameWhatChangedOnly) {
  update(exposed(), {on("here", "10.0.1.1")});
  auto changes = compiler.take_changes();
  EXPECT_EQ(changes.set, compiler.table());
  EXPECT_TRUE(changes.removed.empty());

  changes = compiler.take_changes();
  EXPECT_TRUE(changes.set.empty() && changes.removed.empty());

  const Table before = compiler.table();
  update(exposed(), {on("here", "10.0.1.1"), not_ready(on("there", "10.0.2.1"))});
  EXPECT_EQ(compiler.table(), before) << "the same objects";
  changes = compiler.take_changes();
  EXPECT_TRUE(changes.set.empty() && changes.removed.empty());

  update(exposed_local(), {on("here", "10.0.1.1")});
  changes = compiler.take_changes();
  EXPECT_EQ(changes.set.size(), 3U) << "all but the cluster IP: no longer masqueraded";
  EXPECT_EQ(compiler.table().at(tcp(kClusterIp, 80)), before.at(tcp(kClusterIp, 80)));

  compiler.update("shop/web", {});
  changes = compiler.take_changes();
  EXPECT_EQ(changes.removed.size(), 4U);
  EXPECT_TRUE(std::ranges::is_sorted(changes.removed));
  compiler.update("shop/web", {});
  compiler.update("shop/never-seen", input({}, {}));
  changes = compiler.take_changes();
  EXPECT_TRUE(changes.removed.empty() && changes.set.empty());
}

TEST_F(ServiceCompiler, WhatChangedBackIsNoChange) {
  update(exposed(), {on("here", "10.0.1.1")});
  (void)compiler.take_changes();
  update(exposed(), {on("here", "10.0.1.2")});
  compiler.update("shop/web", {});
  update(exposed(), {on("here", "10.0.1.1")});
  auto changes = compiler.take_changes();
  EXPECT_TRUE(changes.set.empty() && changes.removed.empty());

  model::Service other = web();
  other.name = "short-lived";
  other.cluster_ips = ips({"10.96.0.7"});
  update(other, {on("here", "10.0.1.1")});
  compiler.update("shop/short-lived", {});
  changes = compiler.take_changes();
  EXPECT_TRUE(changes.set.empty() && changes.removed.empty());
}

}  // namespace
}  // namespace sluice::service
