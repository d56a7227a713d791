// SPDX-License-Identifier: Apache-2.0
// What the runtime reads on the node: put there, kept, shared with those who chain themselves to it, taken
// away.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "daemon/install/files.h"

namespace sluice::install {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOurs =
    R"({"name":"sluice","cniVersion":"1.0.0","plugins":[{"type":"sluice-cni","x":1}]})";
constexpr const char* kName = "05-sluice.conflist";

class NodeFilesTest : public testing::Test {
 protected:
  NodeFilesTest() {
    char pattern[] = "/tmp/sluice-files-XXXXXX";
    home_ = mkdtemp(pattern);
    for (const auto* folder : {"bin", "net", "image"}) fs::create_directory(home_ + "/" + folder);
    write("image/list", kOurs);
    write("image/plugin", "plugin 1");
    write("bin/bridge", "theirs");
    options_ = {home_ + "/image/list", home_ + "/image/plugin", home_ + "/bin", home_ + "/net", true};
  }
  ~NodeFilesTest() override { fs::remove_all(home_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(home_ + "/" + name, std::ios::trunc) << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(home_ + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::set<std::string> names(const std::string& folder) const {
    std::set<std::string> found;
    for (const auto& each : fs::directory_iterator(home_ + "/" + folder))
      found.insert(each.path().filename());
    return found;
  }
  Json list() const { return Json::parse(read(std::string("net/") + kName)); }
  std::vector<std::string> types() const {
    std::vector<std::string> found;
    const auto all = list();
    for (const auto& plugin : all.at("plugins")) found.push_back(plugin.at("type"));
    return found;
  }
  // As a service mesh does.
  void chain(const std::string& type) const {
    auto all = list();
    all["plugins"].push_back({{"type", type}, {"theirs", true}});
    write(std::string("net/") + kName, all.dump());
  }
  static void expect_quiet(const Look& look) {
    EXPECT_EQ(look.found, std::vector<std::string>{});
    EXPECT_EQ(look.problem, "");
  }
  std::vector<std::string> remove() const {
    auto removed = remove_node_files(home_ + "/bin", home_ + "/net");
    return removed.value();  // throws its error
  }

  std::string home_;
  Options options_;
};

using Types = std::vector<std::string>;
using Names = std::set<std::string>;

TEST_F(NodeFilesTest, AreThereAndGoAgain) {
  NodeFiles files(options_);
  expect_quiet(files.put_back());
  EXPECT_EQ(types(), Types{"sluice-cni"});
  EXPECT_EQ(list().at("plugins")[0].at("x"), 1);
  EXPECT_EQ(names("bin"), (Names{"bridge", "loopback", "sluice-cni"}));
  EXPECT_EQ(read("bin/sluice-cni"), "plugin 1");
  struct stat about {};
  ASSERT_EQ(stat((home_ + "/bin/sluice-cni").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0755u);
  const auto before = fs::last_write_time(home_ + "/net/" + kName);
  expect_quiet(files.put_back());
  EXPECT_EQ(fs::last_write_time(home_ + "/net/" + kName), before);  // nothing is written without need
  write("bin/.sluice-cni.7", "interrupted");
  write("net/.05-sluice.conflist.7", "interrupted");
  remove();
  EXPECT_EQ(names("bin"), Names{"bridge"});
  EXPECT_EQ(names("net"), Names{});
  EXPECT_EQ(remove().size(), 0u);
}

TEST_F(NodeFilesTest, ComeBackAndAreTold) {
  NodeFiles files(options_);
  expect_quiet(files.put_back());
  for (const auto& [name, text] : std::map<std::string, std::string>{
           {std::string("net/") + kName, "{"}, {"bin/sluice-cni", "another"}, {"bin/loopback", ""}}) {
    for (const bool replaced : {false, true}) {
      if (replaced && !text.empty())
        write(name, text);
      else
        fs::remove(home_ + "/" + name);
      const auto look = files.put_back();
      EXPECT_EQ(look.problem, "");
      ASSERT_EQ(look.found.size(), 1u) << name;
      EXPECT_EQ(types(), Types{"sluice-cni"});
      EXPECT_EQ(read("bin/sluice-cni"), "plugin 1");
      EXPECT_TRUE(fs::exists(home_ + "/bin/loopback"));
      expect_quiet(files.put_back());
    }
  }
}

TEST_F(NodeFilesTest, AnotherVersionReplacesItsOwnOnly) {
  expect_quiet(NodeFiles(options_).put_back());
  write("image/plugin", "plugin 2");
  expect_quiet(NodeFiles(options_).put_back());
  EXPECT_EQ(read("bin/sluice-cni"), "plugin 2");
  EXPECT_EQ(read("bin/loopback"), "plugin 2");
  write("bin/loopback", "the node's");
  write("image/plugin", "plugin 3");
  expect_quiet(NodeFiles(options_).put_back());
  EXPECT_EQ(read("bin/loopback"), "the node's");
  remove();
  EXPECT_EQ(names("bin"), (Names{"bridge", "loopback"}));
}

TEST_F(NodeFilesTest, PluginsThatOthersAddedStay) {
  {
    NodeFiles files(options_);
    expect_quiet(files.put_back());
    chain("istio-cni");
    expect_quiet(files.put_back());
    chain("linkerd-cni");
    expect_quiet(files.put_back());
    const Types all{"sluice-cni", "istio-cni", "linkerd-cni"};
    EXPECT_EQ(types(), all);
    fs::remove(home_ + "/net/" + kName);
    EXPECT_EQ(files.put_back().found.size(), 1u);
    EXPECT_EQ(types(), all) << "as seen last";
    write(std::string("net/") + kName, R"({"name":"x","plugins":[{"type":"bridge"}]})");
    EXPECT_EQ(files.put_back().found.size(), 1u);
    EXPECT_EQ(types(), all);
  }
  // A restart, and an upgrade with another list: ours changes, theirs stays.
  write("image/list", R"({"name":"sluice","plugins":[{"type":"sluice-cni","x":2},{"type":"tuning"}]})");
  expect_quiet(NodeFiles(options_).put_back());
  EXPECT_EQ(types(), (Types{"sluice-cni", "tuning", "istio-cni", "linkerd-cni"}));
  EXPECT_EQ(list().at("plugins")[0].at("x"), 2);
  EXPECT_EQ(list().at("plugins")[2].at("theirs"), true);
  write("image/list", kOurs);
  expect_quiet(NodeFiles(options_).put_back());
  EXPECT_EQ(types(), (Types{"sluice-cni", "istio-cni", "linkerd-cni"}))
      << "a chained plugin of the chart goes";
  // Somebody drops the note of whose plugins they are.
  auto unnoted = list();
  unnoted.erase("sluicePlugins");
  write(std::string("net/") + kName, unnoted.dump());
  expect_quiet(NodeFiles(options_).put_back());
  EXPECT_EQ(types(), (Types{"sluice-cni", "istio-cni", "linkerd-cni"}));
  // The mesh goes.
  auto without = list();
  without["plugins"].erase(1);
  write(std::string("net/") + kName, without.dump());
  expect_quiet(NodeFiles(options_).put_back());
  EXPECT_EQ(types(), (Types{"sluice-cni", "linkerd-cni"}));
}

TEST_F(NodeFilesTest, PluginsThatOthersAddedKeepTheirPlaces) {
  const auto put = [&](const std::string& plugins, const std::string& noted) {
    write(std::string("net/") + kName, R"({"name":"sluice","cniVersion":"1.0.0","plugins":)" + plugins +
                                           R"(,"sluicePlugins":)" + noted + "}");
    NodeFiles files(options_);
    expect_quiet(files.put_back());
    return types();
  };
  write("image/list", R"({"name":"sluice","plugins":[{"type":"sluice-cni"},{"type":"tuning","own":1}]})");
  const std::string both = R"(["sluice-cni","tuning"])";
  EXPECT_EQ(put(R"([{"type":"sluice-cni"},{"type":"mesh"},{"type":"tuning"}])", both),
            (Types{"sluice-cni", "mesh", "tuning"}));
  EXPECT_EQ(list().at("plugins")[2].at("own"), 1);
  // Of two of one type the second is somebody else's.
  EXPECT_EQ(put(R"([{"type":"sluice-cni"},{"type":"tuning"},{"type":"tuning","theirs":1}])", both),
            (Types{"sluice-cni", "tuning", "tuning"}));
  EXPECT_EQ(list().at("plugins")[2].at("theirs"), 1);
  // What would keep Sluice from working does not stay as it is.
  EXPECT_EQ(put(R"([{"type":"mesh"},{"type":"sluice-cni"},{"type":"tuning"}])", both),
            (Types{"sluice-cni", "tuning", "mesh"}));
  EXPECT_EQ(put(R"([{"type":"sluice-cni"},{"type":"sluice-cni"},{"no":"type"},7])", "[]"),
            (Types{"sluice-cni", "tuning"}));
}

TEST_F(NodeFilesTest, AMeshThatWritesAllTheTimeIsLeftAlone) {
  NodeFiles files(options_);
  expect_quiet(files.put_back());
  chain("istio-cni");
  for (int round = 0; round < 10; ++round) {
    auto all = list();
    all["plugins"][1]["round"] = round;
    const auto text = all.dump(round);  // in its own layout
    write(std::string("net/") + kName, text);
    expect_quiet(files.put_back());
    EXPECT_EQ(read(std::string("net/") + kName), text);
  }
}

TEST_F(NodeFilesTest, OthersConfigurationsAreAsideUntilSluiceGoes) {
  write("net/00-other.conf", R"({"type":"bridge"})");
  write("net/.hidden.conflist", "broken");
  write("net/10-theirs.conflist", "old");
  write("net/notes.txt", "");
  fs::create_directory(home_ + "/net/folder.conf");
  fs::create_symlink("/etc/missing", home_ + "/net/20-link.json");
  NodeFiles files(options_);
  expect_quiet(files.put_back());
  EXPECT_EQ(names("net"), (Names{".hidden.conflist.before-sluice", "00-other.conf.before-sluice", kName,
                                 "10-theirs.conflist.before-sluice", "20-link.json.before-sluice",
                                 "folder.conf", "notes.txt"}));
  write("net/10-theirs.conflist", "new");
  auto look = files.put_back();
  EXPECT_EQ(look.problem, "");
  ASSERT_EQ(look.found.size(), 1u) << "it is told that somebody writes it again";
  EXPECT_NE(look.found[0].find("10-theirs.conflist, of another network, is there again"), std::string::npos);
  EXPECT_EQ(read("net/10-theirs.conflist.before-sluice"), "new");
  write("net/10-theirs.conflist", "newest");  // no daemon runs any more
  remove();
  EXPECT_EQ(names("net"), (Names{".hidden.conflist", "00-other.conf", "10-theirs.conflist", "20-link.json",
                                 "folder.conf", "notes.txt"}));
  EXPECT_EQ(read("net/10-theirs.conflist"), "newest");
  EXPECT_TRUE(fs::is_symlink(home_ + "/net/20-link.json"));
}

TEST_F(NodeFilesTest, WhatCallsSluiceStays) {
  const std::map<std::string, std::string> callers{
      // As Istio copies our list, and as Multus writes its configuration.
      {"02-istio-cni.conflist", R"({"plugins":[{"type":"sluice-cni"},{"type":"istio-cni"}]})"},
      {"00-multus.conf", R"({"type":"multus","delegates":[{"plugins":[{"type":"sluice-cni"}]}]})"},
      {"01-multus.conf",
       R"({"type":"multus-shim","clusterNetwork":"/host/etc/cni/net.d/05-sluice.conflist"})"},
      {"03-multus.conf", R"({"type":"multus","clusterNetwork":"sluice"})"},
  };
  const std::map<std::string, std::string> others{
      {"02-second.conflist", R"({"plugins":[{"type":"bridge"},{"type":"sluice-cni"}]})"},
      {"00-second.conf", R"({"type":"multus","delegates":[{"type":"flannel"},{"type":"sluice-cni"}]})"},
      {"00-elsewhere.conf", R"({"type":"multus","clusterNetwork":"05-sluice.conflist.d"})"},
      {"00-mentioned.conf", R"({"type":"bridge","note":"sluice-cni"})"},
      {"00-empty.conflist", R"({"plugins":[]})"},
      {"00-array.conflist", R"([{"type":"sluice-cni"}])"},
  };
  for (const bool exclusive : {true, false}) {
    options_.exclusive = exclusive;
    for (const auto& [name, text] : callers) {
      write("net/" + name, text);
      expect_quiet(NodeFiles(options_).put_back());
      EXPECT_EQ(names("net"), (Names{kName, name}));
      fs::remove(home_ + "/net/" + name);
    }
    for (const auto& [name, text] : others) {
      write("net/" + name, text);
      EXPECT_EQ(NodeFiles(options_).put_back().problem.empty(), exclusive) << name;
      EXPECT_EQ(names("net"), (Names{kName, exclusive ? name + ".before-sluice" : name}));
      fs::remove(home_ + "/net/" + name + (exclusive ? ".before-sluice" : ""));
    }
  }
}

TEST_F(NodeFilesTest, SymbolicLinksAreNotFollowed) {
  write("image/elsewhere", "theirs");
  fs::create_symlink(home_ + "/image/elsewhere", home_ + "/net/" + kName);
  fs::create_symlink(home_ + "/image/elsewhere", home_ + "/bin/sluice-cni");
  // In a container what it points to is not to be seen.
  fs::create_symlink("/usr/lib/cni/missing", home_ + "/bin/loopback");
  expect_quiet(NodeFiles(options_).put_back());
  EXPECT_EQ(types(), Types{"sluice-cni"});
  EXPECT_EQ(read("bin/sluice-cni"), "plugin 1");
  EXPECT_EQ(read("image/elsewhere"), "theirs");
  EXPECT_TRUE(fs::is_symlink(home_ + "/bin/loopback"));
  EXPECT_FALSE(fs::is_symlink(home_ + "/bin/sluice-cni"));
  EXPECT_FALSE(fs::is_symlink(home_ + "/net/" + kName));
  remove();
  EXPECT_EQ(names("bin"), (Names{"bridge", "loopback"}));
}

TEST_F(NodeFilesTest, RemovalNeedsNoFolders) {
  fs::remove_all(home_ + "/net");
  EXPECT_EQ(remove().size(), 0u);
  fs::remove_all(home_ + "/bin");
  EXPECT_EQ(remove().size(), 0u);
}

TEST_F(NodeFilesTest, WithoutExclusiveTheOneBeforeOursIsTold) {
  write("net/00-theirs.conf", R"({"type":"bridge"})");
  expect_quiet(NodeFiles(options_).put_back());
  options_.exclusive = false;
  NodeFiles files(options_);
  const auto problem = files.put_back().problem;
  EXPECT_NE(problem.find("00-theirs.conf stands before 05-sluice.conflist"), std::string::npos) << problem;
  EXPECT_NE(problem.find("cni.exclusive"), std::string::npos);
  EXPECT_EQ(names("net"), (Names{"00-theirs.conf", kName}));  // it is back
  EXPECT_EQ(types(), Types{"sluice-cni"});
  fs::remove(home_ + "/net/00-theirs.conf");
  write("net/10-theirs.conf", "{}");
  expect_quiet(files.put_back());
}

TEST_F(NodeFilesTest, WhatCannotBeWrittenIsAProblem) {
  fs::create_directory(home_ + "/net/" + kName);
  EXPECT_NE(NodeFiles(options_).put_back().problem.find(kName), std::string::npos);
  fs::remove_all(home_ + "/net");
  NodeFiles files(options_);
  EXPECT_NE(files.put_back().problem.find("/net"), std::string::npos);
  fs::create_directory(home_ + "/net");
  expect_quiet(files.put_back());
  EXPECT_EQ(types(), Types{"sluice-cni"});
}

TEST_F(NodeFilesTest, OthersStayUntilOursIsThere) {
  for (const auto& taken : {std::string("bin/sluice-cni"), std::string("net/") + kName}) {
    fs::remove(home_ + "/" + taken);
    fs::create_directory(home_ + "/" + taken);
    write("net/00-other.conf", R"({"type":"bridge"})");
    NodeFiles files(options_);
    EXPECT_NE(files.put_back().problem, "") << taken;
    EXPECT_TRUE(fs::exists(home_ + "/net/00-other.conf")) << taken;
    fs::remove(home_ + "/" + taken);
    expect_quiet(files.put_back());
    EXPECT_EQ(names("net"), (Names{"00-other.conf.before-sluice", kName}));
  }
}

TEST_F(NodeFilesTest, AnOriginalOutlivesWhatCallsSluiceUnderItsName) {
  const std::string original = R"({"type":"multus","delegates":[{"type":"flannel"}]})";
  write("net/00-multus.conf", original);
  expect_quiet(NodeFiles(options_).put_back());
  const std::string caller = R"({"type":"multus","clusterNetwork":"sluice"})";
  write("net/00-multus.conf", caller);
  options_.exclusive = false;
  expect_quiet(NodeFiles(options_).put_back());
  EXPECT_EQ(read("net/00-multus.conf"), caller);
  EXPECT_EQ(read("net/00-multus.conf.before-sluice"), original);
  remove();
  EXPECT_EQ(names("net"), Names{"00-multus.conf"});
  EXPECT_EQ(read("net/00-multus.conf"), original);
}

TEST_F(NodeFilesTest, RemovalGoesOnAfterAnError) {
  write("net/00-other.conf", R"({"type":"bridge"})");
  expect_quiet(NodeFiles(options_).put_back());
  fs::remove(home_ + "/net/" + kName);
  fs::create_directory(home_ + "/net/" + kName);
  const auto done = remove_node_files(home_ + "/bin", home_ + "/net");
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find(kName), std::string::npos) << done.error().message;
  EXPECT_EQ(names("net"), (Names{"00-other.conf", kName}));
  EXPECT_EQ(names("bin"), (Names{"bridge", "sluice-cni"})) << "while its list is there, the runtime calls it";
  const auto both = remove_node_files(home_ + "/bin/bridge", home_ + "/net");
  ASSERT_FALSE(both);
  for (const auto& told : {std::string("/net/") + kName, std::string("/bin/bridge")})
    EXPECT_NE(both.error().message.find(told), std::string::npos) << both.error().message;
  fs::remove(home_ + "/net/" + kName);
  remove();
  EXPECT_EQ(names("net"), Names{"00-other.conf"});
  EXPECT_EQ(names("bin"), Names{"bridge"});
}

TEST_F(NodeFilesTest, AListOfTheChartThatCannotWorkIsAProblem) {
  for (const auto& [text, told] : std::map<std::string, std::string>{
           {"{", "not valid JSON"},
           {"", "not valid JSON"},
           {"\xff", "not valid JSON"},
           {"[]", "not a JSON object"},
           {R"({"name":"x"})", "not a list of CNI plugins"},
           {R"({"plugins":[]})", "sluice-cni is not among"},
           {R"({"plugins":[{"type":"bridge"}]})", "sluice-cni is not among"},
           {R"({"plugins":[{"type":"tuning"},{"type":"sluice-cni"}]})", "sluice-cni is not first"},
           {R"({"plugins":[{"type":"sluice-cni"}],"plugins":[]})", "stands twice"},
           {std::string(100, '[') + std::string(100, ']'), "deeper"}}) {
    write("image/list", text);
    const auto problem = NodeFiles(options_).put_back().problem;
    EXPECT_NE(problem.find(told), std::string::npos) << problem;
    EXPECT_NO_THROW((void)Json(problem).dump());  // it is told as JSON
    EXPECT_EQ(names("net"), Names{});
  }
}

}  // namespace
}  // namespace sluice::install
