// SPDX-License-Identifier: Apache-2.0
// Whose pod a sandbox is, and whose an address is.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "daemon/controller/cluster_state.h"

namespace sluice::controller {
namespace {

using model::Kind;

Address at(const char* text) { return *Address::parse(text); }

model::Pod pod(const std::string& name, const std::string& uid, const std::string& app, const char* ip = "") {
  model::Pod made;
  made.ns = "shop";
  made.name = name;
  made.uid = uid;
  made.labels = {{"app", app}};
  if (*ip != '\0') made.ips = {at(ip)};
  return made;
}

class ClusterPods : public testing::Test {
 protected:
  ClusterPods() { state_.set_pod_cidrs({*Prefix::parse("10.1.0.0/24")}); }
  void put(model::Object object) { state_.apply(std::move(object)); }
  void remove(const std::string& name) { state_.apply(model::ObjectKey{Kind::kPod, "shop", name}); }
  void attach(std::uint32_t id, const std::string& name, const std::string& uid, const char* ip,
              std::shared_ptr<const model::Pod> last = nullptr) {
    state_.attach(id, {"shop", name, uid, at(ip), std::move(last)});
  }
  // The label `app` of the endpoint's pod; "?": not known.
  std::string app_of(std::uint32_t id) {
    const auto& pods = state_.cluster().pods;
    const auto found = pods.find(state_.cluster().endpoints.at(id).key());
    return found == pods.end() ? "?" : std::string(found->second->labels.at("app"));
  }
  // The label `app` of those who are peers at the address.
  std::string apps_at(const char* ip) {
    std::string apps;
    for (const auto& [key, known] : state_.cluster().pods) {
      EXPECT_EQ(key, known->ns + "/" + known->name);
      for (const auto& address : known->ips)
        if (address == at(ip) && !known->finished && !known->host_network) apps += known->labels.at("app");
    }
    return apps;
  }

  ClusterState state_;
};

TEST_F(ClusterPods, ASandboxWhosePodIsGoneKeepsItsLastLabelsAlsoAfterARestart) {
  attach(1, "a", "u1", "10.1.0.2");
  EXPECT_EQ(app_of(1), "?") << "never seen";
  put(pod("a", "u1", "web"));
  EXPECT_EQ(app_of(1), "web");
  EXPECT_EQ(state_.take_pods_to_record(), std::set<std::uint32_t>{1});
  remove("a");
  EXPECT_EQ(app_of(1), "web");
  EXPECT_EQ(apps_at("10.1.0.2"), "web");

  ClusterState next;
  next.attach(1, {"shop", "a", "u1", at("10.1.0.2"), state_.last_known(1)});
  next.apply(source::FullState{{Kind::kPod, {}}});
  EXPECT_EQ(next.cluster().pods.at(next.cluster().endpoints.at(1).key())->labels.at("app"), "web");
  EXPECT_TRUE(next.take_pods_to_record().empty());
}

TEST_F(ClusterPods, APodIsItsUidNotItsName) {
  put(pod("web-0", "u1", "old"));
  attach(1, "web-0", "u1", "10.1.0.2");
  auto elsewhere = pod("web-0", "u2", "new", "10.2.0.9");
  elsewhere.node_name = "other";
  put(elsewhere);
  EXPECT_EQ(app_of(1), "old");
  EXPECT_EQ(apps_at("10.1.0.2"), "old");
  EXPECT_EQ(apps_at("10.2.0.9"), "new");
  attach(2, "web-0", "u2", "10.1.0.3");
  EXPECT_EQ(app_of(1), "old");
  EXPECT_EQ(app_of(2), "new");
  EXPECT_EQ(apps_at("10.2.0.9"), "") << "attached here: it has the address that it was given";
  attach(3, "web-0", "u0", "10.1.0.4");
  EXPECT_EQ(app_of(3), "?") << "the object is another pod's";
  state_.detach(1);
  EXPECT_EQ(apps_at("10.1.0.2"), "");
  state_.detach(2);
  EXPECT_EQ(apps_at("10.2.0.9"), "new");
}

TEST_F(ClusterPods, AMirrorPodIsKnownByTheUidOfItsStaticPod) {
  auto mirror = pod("etcd", "u1", "etcd");
  mirror.static_uid = std::string("hash");
  put(mirror);
  attach(1, "etcd", "hash", "10.1.0.2");
  EXPECT_EQ(app_of(1), "etcd");
}

TEST_F(ClusterPods, InTheNodesOwnPodCidrOnlyAttachmentsCount) {
  put(pod("admin", "u1", "admin", "10.1.0.2"));
  EXPECT_EQ(apps_at("10.1.0.2"), "") << "from before a restart of the node";
  put(pod("guest", "u2", "guest"));
  attach(1, "guest", "u2", "10.1.0.2");
  EXPECT_EQ(apps_at("10.1.0.2"), "guest");
  state_.attach(2, {"", "", "", at("10.1.0.3"), nullptr});
  put(pod("late", "u3", "admin", "10.1.0.3"));
  EXPECT_EQ(apps_at("10.1.0.3"), "");
  // The node has another podCIDR: attachments keep what they have.
  state_.set_pod_cidrs({*Prefix::parse("10.3.0.0/24")});
  EXPECT_EQ(apps_at("10.1.0.2"), "guest");
  EXPECT_EQ(apps_at("10.1.0.3"), "");
  state_.detach(1);
  EXPECT_EQ(apps_at("10.1.0.2"), "admin") << "an address elsewhere, now";
}

TEST_F(ClusterPods, AnAddressOfAServiceCidrIsNoPods) {
  const auto range = [](const char* name, const char* cidr) {
    return model::ServiceCidr{name, {*Prefix::parse(cidr)}};
  };
  put(pod("thief", "u1", "admin", "10.96.0.10"));
  put(pod("other", "u2", "web", "10.97.0.10"));
  EXPECT_EQ(apps_at("10.96.0.10"), "admin") << "no ServiceCIDR is known";
  put(range("kubernetes", "10.96.0.0/16"));
  EXPECT_EQ(apps_at("10.96.0.10"), "");
  EXPECT_EQ(apps_at("10.97.0.10"), "web");
  EXPECT_TRUE(state_.take_nodes_changed()) << "nor is it a node's";
  put(range("more", "10.97.0.0/16"));
  EXPECT_EQ(apps_at("10.97.0.10"), "");
  EXPECT_EQ(state_.service_ranges(),
            (std::vector{*Prefix::parse("10.96.0.0/16"), *Prefix::parse("10.97.0.0/16")}));
  static_cast<void>(state_.take_nodes_changed());
  put(range("more", "10.97.0.0/16"));
  EXPECT_FALSE(state_.take_nodes_changed()) << "the same again";
  state_.apply(source::FullState{{Kind::kServiceCidr, {range("kubernetes", "10.96.0.0/16")}}});
  EXPECT_EQ(apps_at("10.97.0.10"), "web");
  EXPECT_EQ(apps_at("10.96.0.10"), "");
  // Attachments have the address that they were given, whatever is said of it.
  attach(1, "here", "u3", "10.96.0.11");
  put(pod("here", "u3", "here"));
  EXPECT_EQ(apps_at("10.96.0.11"), "here");
}

TEST_F(ClusterPods, ElsewhereTheLiveObjectGoesFirstThenTheYounger) {
  auto admin = pod("admin", "u1", "admin", "10.2.0.2");
  auto guest = pod("guest", "u2", "guest", "10.2.0.2");
  admin.created = 100;
  guest.created = 200;
  put(admin);
  EXPECT_EQ(apps_at("10.2.0.2"), "admin");
  put(guest);
  EXPECT_EQ(apps_at("10.2.0.2"), "guest");
  guest.terminating = true;
  put(guest);
  EXPECT_EQ(apps_at("10.2.0.2"), "admin");
  admin.finished = true;
  put(admin);
  EXPECT_EQ(apps_at("10.2.0.2"), "guest");
  admin.finished = false;
  put(admin);
  remove("admin");
  EXPECT_EQ(apps_at("10.2.0.2"), "guest");
}

TEST_F(ClusterPods, ADamagedRecordIsOfTheOneLivingPodThatHasItsAddressOrOfNone) {
  auto admin = pod("admin", "u1", "admin", "10.1.0.2");
  auto guest = pod("guest", "u2", "guest", "10.1.0.2");
  put(admin);
  ASSERT_NE(state_.pod_at(at("10.1.0.2"), "here"), nullptr);
  put(guest);
  EXPECT_EQ(state_.pod_at(at("10.1.0.2"), "here"), nullptr) << "either may be it";
  admin.terminating = true;
  put(admin);
  ASSERT_NE(state_.pod_at(at("10.1.0.2"), "here"), nullptr);
  EXPECT_EQ(state_.pod_at(at("10.1.0.2"), "here")->name, "guest");
}

// Objects appear, vanish, change UID, labels and address while daemons come and go. A sandbox is judged by
// what its pod was last known as, or nothing passes; an address in the node's podCIDR is its sandbox's.
void follow(policy::Cluster& told, const policy::Cluster& now, const policy::Changes& changes) {
  const auto copy = [](const auto& from, auto& to, const auto& keys) {
    for (const auto& key : keys) {
      const auto found = from.find(key);
      if (found == from.end())
        to.erase(key);
      else
        to.insert_or_assign(key, found->second);
    }
  };
  copy(now.pods, told.pods, changes.pods);
  copy(now.endpoints, told.endpoints, changes.endpoints);
}

const model::Pod* walked(const policy::Cluster& cluster, const Address& address) {
  for (const auto& [key, pod] : cluster.pods)
    if (!pod->finished && !pod->host_network && std::ranges::find(pod->ips, address) != pod->ips.end())
      return pod.get();
  return nullptr;
}

TEST_F(ClusterPods, EqualLabelsAndPortsShareTheirMemory) {
  for (int i = 0; i < 5000; ++i) {
    auto made = pod("p" + std::to_string(i), "", "app" + std::to_string(i / 10));
    made.ports = {{"http", model::Protocol::kTcp, static_cast<std::uint16_t>(1 + i / 10)}};
    put(made);
  }
  const auto ports_of = [&](int i) { return state_.pod("shop", "p" + std::to_string(i))->ports; };
  EXPECT_TRUE(ports_of(4990).shares_with(ports_of(4999)));
  EXPECT_EQ(ports_of(4999)[0].port, 500);
  const auto labels_of = [&](int i) { return state_.pod("shop", "p" + std::to_string(i))->labels; };
  EXPECT_TRUE(labels_of(4990).shares_with(labels_of(4999)));
  EXPECT_EQ(labels_of(4999).at("app"), "app499");
  auto changed = labels_of(4999);
  changed.set("app", "other");
  EXPECT_EQ(labels_of(4990).at("app"), "app499");
}

TEST_F(ClusterPods, AtRandomMomentsASandboxIsNeverJudgedAsAnotherPod) {
  std::mt19937 random(7);
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  std::map<std::uint32_t, std::pair<std::string, std::string>> sandboxes;  // name, UID
  auto state = std::make_unique<ClusterState>();
  std::map<std::string, model::Pod> api;
  policy::Cluster told;  // by what the changes name
  const auto restart = [&] {
    auto next = std::make_unique<ClusterState>();
    next->set_pod_cidrs({*Prefix::parse("10.1.0.0/24")});
    for (const auto& [id, sandbox] : sandboxes)
      next->attach(id, {"shop", sandbox.first, sandbox.second, Address::from_v4(0x0a010000U + id),
                        state->last_known(id)});
    std::vector<model::Object> objects;
    for (const auto& [name, object] : api) objects.push_back(object);
    next->apply(source::FullState{{Kind::kPod, objects}});
    state = std::move(next);
    told = {};
  };
  restart();
  for (int round = 0; round < 20000; ++round) {
    const auto name = "p" + std::to_string(below(4));
    switch (below(6)) {
      case 0:
      case 1: {
        auto object = pod(name, "u" + std::to_string(below(3)) + name, "app" + std::to_string(below(5)));
        object.ips = {Address::from_v4((below(2) != 0 ? 0x0a010000U : 0x0a020000U) + below(8))};
        object.terminating = below(4) == 0;
        object.created = below(3);
        api[name] = object;
        state->apply(model::Object(object));
        break;
      }
      case 2:
        api.erase(name);
        state->apply(model::ObjectKey{Kind::kPod, "shop", name});
        break;
      case 3: {
        const std::uint32_t id = 1 + below(6);
        if (sandboxes.contains(id)) {
          state->detach(id);
          sandboxes.erase(id);
        } else {
          sandboxes[id] = {name, "u" + std::to_string(below(3)) + name};
          state->attach(id,
                        {"shop", name, sandboxes[id].second, Address::from_v4(0x0a010000U + id), nullptr});
        }
        break;
      }
      case 4:
        restart();
        break;
      default:
        break;
    }
    follow(told, state->cluster(), state->take_policy_changes());
    ASSERT_EQ(told.pods, state->cluster().pods) << "a change was not named";
    ASSERT_EQ(told.endpoints, state->cluster().endpoints);
    for (const auto base : {0x0a010000U, 0x0a020000U})
      for (unsigned i = 0; i < 8; ++i)
        ASSERT_EQ(state->peer_at(Address::from_v4(base + i)),
                  walked(state->cluster(), Address::from_v4(base + i)));
    std::set<Address> owned;
    for (const auto& [key, known] : state->cluster().pods)
      for (const auto& address : known->ips) {
        ASSERT_TRUE(owned.insert(address).second) << address.to_string() << " is two pods'";
        if (!Prefix::parse("10.1.0.0/24")->contains(address)) continue;
        const auto id = address.v4() & 0xff;
        ASSERT_TRUE(sandboxes.contains(id)) << address.to_string() << " is nobody's";
        ASSERT_EQ(known->uid, sandboxes.at(id).second);
      }
    for (const auto& [id, sandbox] : sandboxes) {
      const auto& pods = state->cluster().pods;
      const auto found = pods.find(state->cluster().endpoints.at(id).key());
      const auto object = api.find(sandbox.first);
      if (object != api.end() && object->second.uid == sandbox.second) {
        ASSERT_NE(found, pods.end());
        ASSERT_EQ(found->second->labels, object->second.labels);
      } else if (found == pods.end()) {
        ASSERT_EQ(state->last_known(id), nullptr) << "what was known stays known";
      } else {
        ASSERT_EQ(found->second->uid, sandbox.second);
        // A sandbox that was attached later may learn it from another one of the same pod.
        const auto last = state->last_known(id);
        if (last) {
          ASSERT_EQ(found->second->labels, last->labels);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::controller
