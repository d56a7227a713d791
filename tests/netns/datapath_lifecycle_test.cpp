// SPDX-License-Identifier: Apache-2.0
// Start, restart, and what is in the way: the daemon comes and goes, the datapath stays.
#include <bpf/bpf.h>

#include <filesystem>
#include <map>
#include <set>

#include "tests/netns/node_fixture.h"

namespace sluice::test {

namespace {

class Lifecycle : public NodeTest {
 protected:
  void restart() {
    datapath_.reset();
    open();
  }
  [[nodiscard]] std::string pin(const std::string& name) const {
    return fmt::format("{}/sluice/v{}/{}", sandbox_.bpffs(), SLUICE_ABI_VERSION, name);
  }
  // Name or place -> id, of all programs, links and maps.
  [[nodiscard]] std::map<std::string, std::uint32_t> ids() const {
    std::map<std::string, std::uint32_t> ids;
    for (const auto& module : must(datapath_->modules())) ids["program " + module.name] = module.program_id;
    for (const auto& link : must(datapath_->links())) ids["link " + link.name] = link.link_id;
    for (const auto& map : must(datapath_->maps())) ids["map " + map.name] = map.id;
    return ids;
  }
};

TEST_F(Lifecycle, ARestartedDaemonAdoptsWhatItFinds) {
  add_three_pods();
  apply(web_from_a_to_b());
  const auto before = ids();
  const auto listener = listen_tcp(&b().netns(), b().address(), kWeb);
  const auto client = connect_tcp(&a().netns(), b().address(), kWeb);
  const auto server = accept_tcp(listener);

  datapath_.reset();
  EXPECT_TRUE(send_and_receive(client, server));
  EXPECT_TRUE(ping(&a().netns(), c().address()));

  open();
  EXPECT_EQ(ids(), before);
  const auto endpoints = must(datapath_->endpoints());
  ASSERT_EQ(endpoints.size(), 3U);
  EXPECT_EQ(endpoints[1].id, b().endpoint().id);
  EXPECT_EQ(endpoints[1].ifname, b().endpoint().ifname);
  EXPECT_EQ(endpoints[1].ipv4, b().address());
  EXPECT_EQ(endpoints[1].mac, b().endpoint().mac);
  for (const auto& pod : pods_) EXPECT_TRUE(datapath_->verify(pod->endpoint()));
  EXPECT_TRUE(send_and_receive(client, server));
  EXPECT_FALSE(connect_tcp(&c().netns(), b().address(), kWeb));

  const auto numbers = must(datapath_->first_numbers());
  EXPECT_GT(numbers.table, kTable);
  EXPECT_GT(numbers.port_table, kPorts);
  EXPECT_GT(numbers.peer_class, kClassC);

  // The first ruleset is a generation, and the numbers go on.
  const auto applied = apply(nothing_to_b(numbers.table));
  EXPECT_TRUE(applied.generation);
  EXPECT_EQ(applied.number, 2U);
  EXPECT_FALSE(send_and_receive(client, server));
  datapath_->collect();
  expect_no_differences();
}

TEST_F(Lifecycle, AfterARestartTheOldGenerationJudgesAsBeforeUntilTheFlip) {
  add_three_pods();
  auto rules = web_from_a_to_b();
  rules.peers = {};
  rules.blocks[must(Prefix::parse("10.244.1.0/24"))] = kClassA;
  apply(rules);
  ASSERT_TRUE(connects(a(), b(), kWeb));
  restart();
  // The next generation knows A and C by other ways and other classes; the check keeps it from coming into
  // force.
  auto next = nothing_to_b(must(datapath_->first_numbers()).table);
  next.peers = {{a().address(), kClassB}};
  next.blocks[must(Prefix::parse("10.244.1.13/32"))] = kClassC;
  ASSERT_FALSE(try_apply(next, {check_web(a(), b(), SLUICE_DROP_NONE)}));
  EXPECT_TRUE(connects(a(), b(), kWeb));
  EXPECT_TRUE(connects(c(), b(), kWeb));
  datapath_->collect();
  EXPECT_TRUE(connects(a(), b(), kWeb));
  ASSERT_TRUE(try_apply(next, {check_web(a(), b(), SLUICE_DROP_POLICY_INGRESS)}));
  EXPECT_FALSE(connects(c(), b(), kWeb));
  datapath_->collect();
  expect_no_differences();
}

TEST_F(Lifecycle, TablesWithoutRowsAreNotGivenAwayAfterARestart) {
  add_three_pods();
  apply(nothing_to_b(77));
  restart();
  EXPECT_GT(must(datapath_->first_numbers()).table, 77U);
}

TEST_F(Lifecycle, AGenerationCutShortBeforeItsFlipIsRemoved) {
  add_three_pods();
  apply(open_rules());
  datapath_.reset();
  // A later generation that was pinned and never came into force.
  std::filesystem::create_directory(pin("generations/2"));
  const Fd deliver(bpf_obj_get(pin("progs/deliver").c_str()));
  ASSERT_EQ(bpf_obj_pin(deliver.get(), pin("generations/2/program").c_str()), 0);
  open();
  EXPECT_FALSE(std::filesystem::exists(pin("generations/2")));
  EXPECT_EQ(datapath_->generations().front().number, 1U);
  EXPECT_EQ(apply(open_rules()).number, 2U);
}

TEST_F(Lifecycle, AFlipThatWasNotPublishedIsCompleted) {
  add_three_pods();
  apply(open_rules());
  apply(web_from_a_to_b());
  datapath_.reset();
  // As if the daemon had been killed between the slot's write and the publication of generation 2.
  const Fd live(bpf_obj_get(pin("live").c_str()));
  const std::uint32_t zero = 0;
  sluice_live stale{SLUICE_STAMP(1, 5)}, now{};
  ASSERT_EQ(bpf_map_update_elem(live.get(), &zero, &stale, 0), 0);
  open();
  ASSERT_EQ(bpf_map_lookup_elem(live.get(), &zero, &now), 0);
  EXPECT_EQ(now.stamp, SLUICE_STAMP(2, 0));
  EXPECT_EQ(apply(open_rules()).number, 3U);
}

TEST_F(Lifecycle, ALostModuleIsLoadedAgain) {
  add_three_pods();
  apply(open_rules());
  const auto before = ids();
  datapath_.reset();
  std::filesystem::remove(pin("progs/router"));
  std::filesystem::remove(pin("progs/entry_pod"));
  open();
  auto after = ids();
  for (const auto* name : {"program entry_pod", "program router"})
    EXPECT_NE(after.at(name), before.at(name)) << name;
  for (const auto* name : {"program nat", "program bridge", "program deliver", "program firewall"})
    EXPECT_EQ(after.at(name), before.at(name)) << name;
  for (const auto& [name, id] : before) {
    if (name.starts_with("link") || name.starts_with("map")) {
      EXPECT_EQ(after.at(name), id) << name;
    }
  }
  for (const auto& pod : pods_) EXPECT_TRUE(datapath_->verify(pod->endpoint()));
  EXPECT_TRUE(ping(&a().netns(), b().address()));
  EXPECT_TRUE(ping(&a().netns(), gateway()));
}

TEST_F(Lifecycle, AnotherBuildsModuleIsReplacedInItsSlotAndOnItsLinks) {
  add_three_pods();
  apply(open_rules());
  const auto before = ids();
  datapath_.reset();
  // As if another build had loaded these two.
  const Fd info(bpf_obj_get(pin("module_info").c_str()));
  for (const std::uint32_t module : {SLUICE_MODULE_ENTRY, SLUICE_MODULE_NAT}) {
    const sluice_module_info other{1, 0, 0};
    ASSERT_EQ(bpf_map_update_elem(info.get(), &module, &other, 0), 0);
  }
  open();
  for (const auto& [name, id] : ids()) {
    const bool replaced = name.starts_with("program entry_") || name.starts_with("program nat");
    EXPECT_EQ(before.at(name) != id, replaced) << name;
  }
  for (const auto& pod : pods_) EXPECT_TRUE(datapath_->verify(pod->endpoint()));
  EXPECT_TRUE(connects(a(), b(), kWeb));
  EXPECT_TRUE(ping(nullptr, a().address()));
  expect_no_differences();
}

TEST_F(Lifecycle, EntriesOfAnAttachmentCutShortAreSwept) {
  add_pod(1);
  apply(open_rules());
  datapath_.reset();
  const Fd locals(bpf_obj_get(pin("locals").c_str()));
  const auto stray = must(Address::parse("10.244.1.99")).abi();
  const std::uint32_t id = 9;
  ASSERT_EQ(bpf_map_update_elem(locals.get(), &stray, &id, 0), 0);
  open();
  std::uint32_t found = 0;
  EXPECT_NE(bpf_map_lookup_elem(locals.get(), &stray, &found), 0);
  const auto kept = a().address().abi();
  EXPECT_EQ(bpf_map_lookup_elem(locals.get(), &kept, &found), 0);
  EXPECT_EQ(found, 1U);
}

TEST_F(Lifecycle, AnEndpointWhoseInterfaceVanishedCanBeDetached) {
  add_pod(1);
  const auto endpoint = a().endpoint();
  auto netlink = must(NetlinkSocket::make());
  must(netlink.delete_link(endpoint.ifname));
  const auto endpoints = must(datapath_->endpoints());
  ASSERT_EQ(endpoints.size(), 1U);
  EXPECT_EQ(endpoints[0].ifname, "");
  EXPECT_FALSE(datapath_->verify(endpoint));
  must(datapath_->detach(endpoint.id));
  EXPECT_TRUE(must(datapath_->endpoints()).empty());
  must(datapath_->interface_gone(endpoint.ifindex));
  EXPECT_FALSE(std::filesystem::exists(pin(fmt::format("links/{}", endpoint.ifindex))));
}

TEST_F(Lifecycle, AttachingAnInterfaceThatIsNotThereLeavesNothing) {
  datapath::Endpoint endpoint;
  endpoint.id = 7;
  endpoint.ifname = "nobody";
  endpoint.ifindex = 9999;
  endpoint.ipv4 = must(Address::parse("10.244.1.17"));
  endpoint.mac = Mac::of_pod(endpoint.ipv4);
  EXPECT_FALSE(datapath_->attach(endpoint, 1450));
  EXPECT_TRUE(must(datapath_->endpoints()).empty());
  const Fd locals(bpf_obj_get(pin("locals").c_str()));
  const auto address = endpoint.ipv4.abi();
  std::uint32_t found = 0;
  EXPECT_NE(bpf_map_lookup_elem(locals.get(), &address, &found), 0);
  endpoint.id = SLUICE_MAX_ENDPOINTS;
  EXPECT_FALSE(datapath_->attach(endpoint, 1450));
}

TEST_F(Lifecycle, ConnectionsThatOutlivedTheirTimeAreCollected) {
  const Fd groups(bpf_obj_get(pin("conntrack_groups").c_str()));
  const Fd conntrack(bpf_obj_get(pin("conntrack").c_str())), config(bpf_obj_get(pin("config").c_str()));
  const std::uint32_t zero = 0;
  sluice_config node{};
  ASSERT_EQ(bpf_map_lookup_elem(config.get(), &zero, &node), 0);
  for (const auto word : node.conntrack_secret) EXPECT_EQ(word & 1, 1U);
  sluice_ct_group group{};
  sluice_ct_pool pool{};
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto now_ns = static_cast<std::uint64_t>(now.tv_sec) * SLUICE_NS_PER_S;
  const auto insert = [&](std::uint16_t port, std::uint64_t idle_s, std::uint16_t flags,
                          std::uint32_t progress, std::uint64_t torn = 0) {
    sluice_ct_key key{};
    key.proto = IPPROTO_UDP;
    key.port_be[0] = htons(port);
    sluice_ct_entry entry{};
    entry.last_seen_ns = now_ns - idle_s * SLUICE_NS_PER_S;
    entry.nat.flags = flags;
    entry.seal = sluice_ct_seal(sluice_ct_hash(&key, node.conntrack_secret), &entry.nat);
    entry.progress = sluice_ct_progress_word(entry.seal, progress);
    entry.seal += torn;
    group.tags[port].word[port / 4] = std::uint64_t{SLUICE_CT_TAG} << port % 4 * 16;
    group.tags[port].entry[port] = static_cast<std::uint16_t>(group.fresh);
    pool.pair[group.fresh++] = {key, entry};
    if (const int code = bpf_map_update_elem(conntrack.get(), &zero, &pool, 0); code != 0) return code;
    return bpf_map_update_elem(groups.get(), &zero, &group, 0);
  };
  constexpr std::uint64_t kIdle = SLUICE_CT_UDP_NEW_S + 10;
  ASSERT_EQ(insert(1, kIdle, 0, 0), 0);
  ASSERT_EQ(insert(2, 0, 0, 0), 0);
  ASSERT_EQ(insert(3, kIdle, 0, SLUICE_CT_REPLIED | SLUICE_CT_ASSURED), 0);
  ASSERT_EQ(insert(4, kIdle, SLUICE_CT_ALIAS, 0), 0);
  ASSERT_EQ(insert(5, kIdle, SLUICE_CT_ALIAS, SLUICE_CT_REPLIED | SLUICE_CT_ASSURED), 0);
  ASSERT_EQ(insert(6, 0, 0, 0, 1), 0) << "its seal is not the key's";
  datapath_->collect_connections();
  const auto status = datapath_->conntrack();
  EXPECT_EQ(status.entries, 3U);
  EXPECT_EQ(status.expired_total, 3U);
  EXPECT_EQ(status.max_entries, 1024U);
}

TEST_F(Lifecycle, WhatIsAmissIsNamed) {
  add_three_pods();
  apply(web_from_a_to_b());
  for (const auto& pod : pods_) EXPECT_TRUE(datapath_->verify(pod->endpoint()));
  expect_no_differences();
  auto netlink = must(NetlinkSocket::make());
  LinkChange change;
  change.up = false;
  must(netlink.change_link(static_cast<int>(a().endpoint().ifindex), change));
  EXPECT_FALSE(datapath_->verify(a().endpoint()));

  const Fd locals(bpf_obj_get(pin("locals").c_str()));
  const auto address = b().address().abi();
  ASSERT_EQ(bpf_map_delete_elem(locals.get(), &address), 0);
  EXPECT_FALSE(datapath_->verify(b().endpoint()));

  std::filesystem::remove(pin(fmt::format("links/{}", c().endpoint().ifindex)));
  EXPECT_FALSE(datapath_->verify(c().endpoint()));

  const Fd tables(bpf_obj_get(pin("tables").c_str()));
  const sluice_row_key row{kTable, kClassA, 0};
  ASSERT_EQ(bpf_map_delete_elem(tables.get(), &row), 0);
  const Fd peers(bpf_obj_get(pin("peers").c_str()));
  const sluice_peer wrong{};
  const auto peer = a().address().abi();
  ASSERT_EQ(bpf_map_update_elem(peers.get(), &peer, &wrong, 0), 0);
  const auto differences = must(datapath_->audit());
  const auto named = [&](const std::string& text) {
    return std::any_of(differences.begin(), differences.end(),
                       [&](const std::string& each) { return each.find(text) != std::string::npos; });
  };
  EXPECT_TRUE(named("locals"));
  EXPECT_TRUE(named("tables"));
  EXPECT_TRUE(named("peers: 10.244.1.11"));
  EXPECT_TRUE(named("endpoint 3: Sluice's program is missing on interface pod3"));
  EXPECT_EQ(differences.size(), 4U);
}

TEST_F(Lifecycle, AnAddressOfAnotherEndpointIsRefusedAndTheRestUndone) {
  add_pod(1);
  apply(open_rules());
  auto intruder = std::make_unique<Pod>(2, "10.244.1.12", "10.244.1.1");
  auto endpoint = intruder->endpoint();
  endpoint.ipv4 = a().address();
  const auto refused = datapath_->attach(endpoint, 1450);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("endpoint 1"), std::string::npos) << refused.error().message;
  EXPECT_EQ(must(datapath_->endpoints()).size(), 1U);
  EXPECT_TRUE(datapath_->verify(a().endpoint()));
  EXPECT_FALSE(std::filesystem::exists(pin(fmt::format("links/{}", endpoint.ifindex))));
  expect_no_differences();
}

TEST_F(Lifecycle, RoutesOfNodesThatLeftAreRemovedAndOthersStay) {
  auto netlink = must(NetlinkSocket::make());
  Route foreign;
  foreign.destination = must(Prefix::parse("192.0.2.0/24"));
  foreign.link_index = must(netlink.link("sluice_host")).index;
  must(netlink.replace_route(foreign));
  auto with_remote = config();
  with_remote.remotes = {
      {"other", {must(Prefix::parse("10.244.2.0/24"))}, {must(Address::parse("198.51.100.2"))}}};
  const auto routes = [&] {
    std::set<std::string> found;
    for (const auto& route : must(netlink.routes())) found.insert(route.destination.to_string());
    return found;
  };
  must(datapath_->configure(with_remote));
  EXPECT_EQ(routes(),
            (std::set<std::string>{"10.244.1.0/24", "10.244.1.0/32", "10.244.2.0/24", "192.0.2.0/24"}));
  expect_no_differences();
  must(datapath_->configure(config()));
  EXPECT_EQ(routes(), (std::set<std::string>{"10.244.1.0/24", "10.244.1.0/32", "192.0.2.0/24"}));
  expect_no_differences();
}

TEST_F(Lifecycle, ASecondDaemonIsRefused) {
  const auto second = datapath::Datapath::open(options());
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another sluiced"), std::string::npos) << second.error().message;
}

class Start : public NodeTest {
 protected:
  void SetUp() override {}
};

TEST_F(Start, WithoutABpffsSaysHowToMountOne) {
  auto elsewhere = options();
  elsewhere.bpffs = "/proc";
  const auto refused = datapath::Datapath::open(elsewhere);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("mount -t bpf"), std::string::npos) << refused.error().message;
}

TEST_F(Start, APinnedMapOfAnotherLayoutIsRefusedAndNothingTouched) {
  const auto root = fmt::format("{}/sluice/v{}", sandbox_.bpffs(), SLUICE_ABI_VERSION);
  std::filesystem::create_directories(root);
  const Fd other(bpf_map_create(BPF_MAP_TYPE_ARRAY, "conntrack", 4, sizeof(sluice_ct_entry), 16, nullptr));
  ASSERT_EQ(bpf_obj_pin(other.get(), (root + "/conntrack").c_str()), 0);
  const auto refused = datapath::Datapath::open(options());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("conntrack has value size 56"), std::string::npos)
      << refused.error().message;
  EXPECT_TRUE(std::filesystem::is_empty(root + "/progs"));
  EXPECT_FALSE(std::filesystem::exists(root + "/packet"));
}

}  // namespace

}  // namespace sluice::test
