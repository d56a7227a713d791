// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/yaml/yaml_source.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "daemon/source/yaml/convert.h"
#include "tests/unit/recording_sink.h"

namespace sluice::source {
namespace {

namespace fs = std::filesystem;
using model::Kind;
using nlohmann::json;

std::string pod(const std::string& name, const std::string& extra = "") {
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\n" + extra;
}

class YamlSourceTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "sluice-yaml-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = fs::path(name) / "objects";
    fs::create_directory(folder_);
  }
  void TearDown() override {
    source_.reset();
    fs::remove_all(folder_.parent_path());
  }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name) << content;
  }
  // As programs that never let half a file be seen.
  void place(const std::string& name, const std::string& content) const {
    const auto temporary = folder_.parent_path() / "new";
    std::ofstream(temporary) << content;
    fs::rename(temporary, folder_ / name);
  }
  void start() {
    auto source = YamlSource::make({folder_.string()});
    ASSERT_TRUE(source) << source.error().message;
    source_ = std::move(*source);
    const auto started = source_->start(sink_);
    ASSERT_TRUE(started) << started.error().message;
    ASSERT_TRUE(sink_.wait([](const auto& state) { return state.synced(); }));
  }
  bool wait_for_pods(const std::vector<std::string>& names) {
    return sink_.wait([&](const auto& state) { return state.names(Kind::kPod) == names; });
  }

  fs::path folder_;
  RecordingSink sink_;
  std::unique_ptr<YamlSource> source_;
};

TEST_F(YamlSourceTest, MissingFolderIsAClearError) {
  auto source = YamlSource::make({(folder_ / "none").string()});
  ASSERT_TRUE(source);
  const auto started = (*source)->start(sink_);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().message,
            "YAML folder " + (folder_ / "none").string() + ": No such file or directory");
}

TEST_F(YamlSourceTest, AnEmptyFolderIsAllKindsEmpty) {
  start();
  EXPECT_TRUE(sink_.state().objects.empty());
  EXPECT_TRUE(eventually([this] { return source_->status().connected; }));
}

TEST_F(YamlSourceTest, ReadsDocumentsListsAndJson) {
  write("a.yaml", pod("one") + "---\n---\n" + pod("two") +
                      "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {env: prod}}\n"
                      "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: ignored}\n");
  write("b.yml", "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: three, namespace: shop}\n");
  write(
      "c.json",
      R"({"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}]})");
  write("d.txt", pod("not-me"));
  write(".hidden.yaml", pod("nor-me"));
  start();
  const auto state = sink_.state();
  EXPECT_TRUE(state.rejections.empty()) << state.rejections.front();
  EXPECT_EQ(state.objects.size(), 5U);
  const auto& one = std::get<model::Pod>(state.objects.at({Kind::kPod, "default", "one"}));
  EXPECT_TRUE(one.ips.empty());
  EXPECT_TRUE(state.objects.contains({Kind::kPod, "shop", "three"}));
  EXPECT_TRUE(state.objects.contains({Kind::kNode, "", "n"}));
  const auto& shop = std::get<model::Namespace>(state.objects.at({Kind::kNamespace, "", "shop"}));
  EXPECT_EQ(shop.labels, (model::Labels{{"env", "prod"}, {"kubernetes.io/metadata.name", "shop"}}));
}

TEST_F(YamlSourceTest, ReadsServiceCidrs) {
  write("a.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\n"
        "spec: {cidrs: [10.96.0.0/16, 'fd00:96::/112']}\n");
  start();
  const auto state = sink_.state();
  EXPECT_TRUE(state.rejections.empty()) << state.rejections.front();
  EXPECT_EQ(
      std::get<model::ServiceCidr>(state.objects.at({Kind::kServiceCidr, "", "kubernetes"})).cidrs.size(),
      2U);
}

TEST_F(YamlSourceTest, ReadsServicesAndEndpointSlices) {
  const auto service = [](const std::string& ranges) {
    return "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
           "spec: {clusterIP: 10.96.0.1, ports: [{port: 80}], loadBalancerSourceRanges: [" +
           ranges + "]}\n---\n";
  };
  write("a.yaml", service("10.0.0.0/8") +
                      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
                      "metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}\n"
                      "endpoints: [{addresses: [10.1.0.2]}]\nports: [{port: 8080}]\n"
                      "---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: ignored}\n");
  start();
  auto state = sink_.state();
  EXPECT_TRUE(state.rejections.empty()) << state.rejections.front();
  EXPECT_EQ(state.objects.size(), 2U);
  const model::ObjectKey web{Kind::kService, "default", "web"};
  ASSERT_TRUE(state.objects.contains(web));
  const auto& slice =
      std::get<model::EndpointSlice>(state.objects.at({Kind::kEndpointSlice, "default", "web-1"}));
  EXPECT_EQ(slice.service, "web");
  EXPECT_EQ(slice.endpoints.size(), 1U);
  const auto before = state.objects.at(web);
  // A range that cannot be read opens nothing.
  write("a.yaml", service("office") + pod("one"));
  ASSERT_TRUE(wait_for_pods({"one"}));
  EXPECT_TRUE(sink_.wait([](const auto& now) {
    return now.rejected("a.yaml:1: Service default/web: spec.loadBalancerSourceRanges[0]: 'office'");
  }));
  state = sink_.state();
  EXPECT_EQ(state.objects.at(web), before);
  EXPECT_TRUE(state.names(Kind::kEndpointSlice).empty());
}

// It is no policy: nothing waits for it.
TEST_F(YamlSourceTest, AServiceThatCannotBeUsedHoldsUpNothing) {
  write("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 0}]}\n---\n" +
                      pod("one"));
  start();
  EXPECT_EQ(sink_.state().names(Kind::kPod), std::vector<std::string>{"one"});
  EXPECT_TRUE(sink_.state().names(Kind::kService).empty());
  EXPECT_TRUE(eventually([this] { return source_->status().connected; }));
}

TEST_F(YamlSourceTest, FollowsEveryWayAFileChanges) {
  start();
  write("a.yaml", pod("one"));
  EXPECT_TRUE(wait_for_pods({"one"}));
  write("a.yaml", pod("two"));
  EXPECT_TRUE(wait_for_pods({"two"}));
  place("b.yaml", pod("three"));
  EXPECT_TRUE(wait_for_pods({"three", "two"}));
  place("b.yaml", pod("four"));
  EXPECT_TRUE(wait_for_pods({"four", "two"}));
  fs::rename(folder_ / "b.yaml", folder_ / "b.off");
  EXPECT_TRUE(wait_for_pods({"two"}));
  fs::remove(folder_ / "a.yaml");
  EXPECT_TRUE(wait_for_pods({}));
  fs::create_hard_link(folder_ / "b.off", folder_ / "c.yaml");
  EXPECT_TRUE(wait_for_pods({"four"}));
  std::ofstream(folder_.parent_path() / "target") << pod("five");
  fs::create_symlink("../target", folder_ / "d.yaml");
  EXPECT_TRUE(wait_for_pods({"five", "four"}));
}

TEST_F(YamlSourceTest, TellsOnlyOfKindsThatChanged) {
  write("a.yaml", pod("one"));
  start();
  write("b.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
  ASSERT_TRUE(sink_.wait([](const auto& state) { return state.has(Kind::kNamespace, "shop"); }));
  write("c.yaml", pod("one", "# the same again\n"));
  ASSERT_TRUE(sink_.wait([](const auto& state) { return state.rejected("stands in a.yaml:1"); }));
  const auto state = sink_.state();
  EXPECT_EQ(state.replaced.at(Kind::kNamespace), 2);
  EXPECT_EQ(state.replaced.at(Kind::kPod), 1);
  EXPECT_EQ(state.replaced.at(Kind::kNode), 1);
}

TEST_F(YamlSourceTest, WhatOneFileChangesOfSeveralKindsIsToldInOneCall) {
  place("all.yaml", pod("a"));
  start();
  const auto before = sink_.state().full_states;
  place("all.yaml", pod("b") + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: y}\n");
  ASSERT_TRUE(wait_for_pods({"b"}));
  EXPECT_TRUE(sink_.state().has(Kind::kNamespace, "y"));
  EXPECT_EQ(sink_.state().full_states, before + 1);
}

TEST_F(YamlSourceTest, ABrokenFileKeepsItsLastGoodObjects) {
  write("a.yaml", pod("one"));
  write("b.yaml", pod("two"));
  start();
  write("a.yaml", pod("one") + "---\nkind: [\n");
  ASSERT_TRUE(sink_.wait([](const auto& state) { return state.rejected("a.yaml:"); }));
  write("b.yaml", pod("three"));
  EXPECT_TRUE(wait_for_pods({"one", "three"}));
  EXPECT_TRUE(eventually([this] { return source_->status().last_error.starts_with("a.yaml:"); }));
  write("a.yaml", pod("four"));
  EXPECT_TRUE(wait_for_pods({"four", "three"}));
  EXPECT_TRUE(eventually([this] { return source_->status().last_error.empty(); }));
  // Told once, not with every look at the folder.
  EXPECT_EQ(sink_.state().rejections.size(), 1U);
}

TEST_F(YamlSourceTest, AnObjectThatCannotBeUsedStaysAsItWas) {
  const auto policy = [](const std::string& port) {
    return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n"
           "  ingress: [{ports: [{port: " +
           port + "}]}]\n---\n";
  };
  write("a.yaml", policy("80") + pod("one"));
  start();
  const model::ObjectKey key{Kind::kNetworkPolicy, "default", "p"};
  const auto before = sink_.state().objects.at(key);
  write("a.yaml", policy("70000") + pod("two"));
  EXPECT_TRUE(wait_for_pods({"two"}));
  EXPECT_TRUE(sink_.wait([](const auto& state) {
    return state.rejected("a.yaml:1: NetworkPolicy default/p: spec.ingress[0].ports[0].port: 70000 is not");
  }));
  EXPECT_EQ(sink_.state().objects.at(key), before);
}

TEST_F(YamlSourceTest, OfTwoObjectsOfOneNameTheFirstFilesCounts) {
  write("b.yaml", pod("one", "spec: {nodeName: from-b}\n"));
  write("c.yaml", pod("one", "spec: {nodeName: from-c}\n"));
  start();
  const model::ObjectKey key{Kind::kPod, "default", "one"};
  const auto node = [&](const RecordingSink::State& state) {
    return state.objects.contains(key) ? std::get<model::Pod>(state.objects.at(key)).node_name : "";
  };
  EXPECT_TRUE(sink_.wait([](const auto& state) {
    return state.rejected("c.yaml:1: Pod default/one stands in b.yaml:1 already");
  }));
  EXPECT_EQ(node(sink_.state()), "from-b");
  place("a.yaml", pod("one", "spec: {nodeName: from-a}\n"));
  EXPECT_TRUE(sink_.wait([&](const auto& state) { return node(state) == "from-a"; }));
  fs::remove(folder_ / "a.yaml");
  fs::remove(folder_ / "b.yaml");
  EXPECT_TRUE(sink_.wait([&](const auto& state) { return node(state) == "from-c"; }));
}

TEST_F(YamlSourceTest, OutlivesTheFolder) {
  write("a.yaml", pod("one"));
  start();
  fs::rename(folder_, folder_.parent_path() / "away");
  EXPECT_TRUE(eventually([this] { return !source_->status().connected; }));
  EXPECT_EQ(sink_.state().names(Kind::kPod), std::vector<std::string>{"one"});
  fs::create_directory(folder_.parent_path() / "fresh");
  std::ofstream(folder_.parent_path() / "fresh" / "b.yaml") << pod("two");
  fs::rename(folder_.parent_path() / "fresh", folder_);
  EXPECT_TRUE(wait_for_pods({"two"}));
  place("b.yaml", pod("three"));
  EXPECT_TRUE(wait_for_pods({"three"}));
}

TEST_F(YamlSourceTest, StopsAndStartsAgain) {
  start();
  source_->stop();
  EXPECT_FALSE(source_->status().connected);
  write("a.yaml", pod("one"));
  ASSERT_TRUE(source_->start(sink_));
  EXPECT_TRUE(wait_for_pods({"one"}));
}

TEST(YamlConvert, TypesScalarsByTheCoreSchema) {
  const auto documents = read_documents(
      "a: 1\nb: '1'\nc: \"true\"\nd: true\ne: yes\nf: ~\ng:\nh: 0x1F\ni: 0o17\nj: 1.5e3\nk: !!str 7\nl: |\n  "
      "8\n"
      "m: 1.2.3\nn: -5\no: 2001-01-01\np: 1_000\nq: 18446744073709551616\nr: &x [1]\ns: *x\nt: 10.0.0.0/8\n",
      false);
  ASSERT_TRUE(documents) << documents.error().message;
  EXPECT_EQ(
      documents->at(0).json,
      json::parse(R"({"a":1,"b":"1","c":"true","d":true,"e":true,"f":null,"g":null,"h":31,"i":15,"j":1500.0,
                            "k":"7","l":"8\n","m":"1.2.3","n":-5,"o":"2001-01-01","p":1000,
                            "q":18446744073709551616.0,"r":[1],"s":[1],"t":"10.0.0.0/8"})"));
}

TEST(YamlConvert, RefusesWhatIsAmbiguousOrTooMuch) {
  std::string laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 20; ++i) {
    const auto before = "*a" + std::to_string(i - 1);
    laughs += fmt::format("a{0}: &a{0} [{1},{1},{1},{1},{1},{1},{1},{1},{1}]\n", i, before);
  }
  struct {
    std::string text;
    const char* error;
    int line;
  } const cases[] = {{"a: 1\nb: 2\na: 3\n", "key 'a' stands twice", 3},
                     {"a: &x {b: 1}\nc:\n  <<: *x\n", "merge keys", 3},
                     {"a: 1\n? [x]\n: 1\n", "a key is no plain value", 0},
                     {"a: !!int x\n", "does not fit its tag", 1},
                     {"a: !custom x\n", "does not fit its tag", 1},
                     {"a: 1\nb: [1\n", "", 3},
                     {"a: \"\xff\"\n", "is not UTF-8", 1},
                     {"a: &a [*a]\n", "", 1},
                     {std::string(100'000, '['), "", 1},
                     {laughs, "aliases resolved", 0}};
  for (const auto& c : cases) {
    const auto documents = read_documents(c.text, false);
    ASSERT_FALSE(documents) << c.text;
    EXPECT_NE(documents.error().message.find(c.error), std::string::npos) << documents.error().message;
    EXPECT_TRUE(c.line == 0 || c.line == documents.error().line)
        << documents.error().line << " in " << c.text.substr(0, 80);
  }
  EXPECT_EQ(read_documents("{\n\"a\":1,\n\"a\":2}", true).error().message, "key 'a' stands twice");
  EXPECT_EQ(read_documents("{\n\"a\":1,\n]", true).error().line, 3);
  EXPECT_FALSE(read_documents(std::string(1'000'000, '['), true));
  EXPECT_TRUE(read_documents(R"({"a":{"x":1},"b":{"x":1}})", true));
}

}  // namespace
}  // namespace sluice::source
