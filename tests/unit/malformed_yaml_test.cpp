// SPDX-License-Identifier: Apache-2.0
// Files of the YAML folder that are not as they should be: tests/corpus/yaml and what file systems can do.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "daemon/source/yaml/convert.h"
#include "daemon/source/yaml/folder.h"
#include "tests/unit/corpus.h"
#include "tests/unit/recording_sink.h"

namespace sluice::source {
namespace {

namespace fs = std::filesystem;
using model::Kind;

const std::string kBefore = R"(apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: front, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop}
)";
const model::ObjectKey kFront{Kind::kNetworkPolicy, "shop", "front"};
const model::ObjectKey kOne{Kind::kPod, "shop", "one"};

struct Case {
  const char* file;
  const char* problem;  // of x.yaml, with its line
  bool whole;           // all that the file said stays, since it cannot be told what it says now
};

const Case kCases[] = {
    {"bad-indentation.yaml", "x.yaml:6: end of map not found", true},
    {"bad-tab.yaml", "x.yaml:6: ", true},
    {"bad-unclosed.yaml", "x.yaml:6: ", true},
    {"bad-quote.yaml", "x.yaml:6: ", true},
    {"bad-alias-unknown.yaml", "x.yaml:5: the referenced anchor is not defined", true},
    {"bad-alias-of-itself.yaml", "x.yaml:2: an alias stands inside of what it is for", true},
    {"bad-alias-bomb.yaml", "more than 10000 values, aliases resolved", true},
    {"bad-documents-without-end.yaml", "is not YAML", true},
    {"bad-merge-key.yaml", "x.yaml:3: merge keys (<<) are not supported", true},
    {"bad-duplicate-key.yaml", "x.yaml:7: key 'ingress' stands twice", true},
    {"bad-utf8.yaml", "x.yaml:1: is not UTF-8", true},
    {"bad-utf16.yaml", "x.yaml:1: is not UTF-8", true},
    {"bad-binary.yaml", "x.yaml:1: is not UTF-8", true},
    {"bad-nul.yaml", "x.yaml:4: ", true},
    {"bad-deep.yaml", "x.yaml:1: nested deeper than 64", true},
    {"bad-key-is-list.yaml", "x.yaml:1: a key is no plain value", true},
    {"bad-tag.yaml", "x.yaml:5: the value does not fit its tag", true},
    {"bad-template.yaml", "x.yaml:3: a key is no plain value", true},
    {"bad-directive.yaml", "x.yaml:1: ", true},
    {"bad-scalar.yaml", "x.yaml:1: the object is not a map", true},
    {"bad-list-document.yaml", "x.yaml:1: the object is not a map", true},
    {"bad-no-kind.yaml", "x.yaml:1: kind: is missing; a Kubernetes object names its apiVersion and kind",
     true},
    {"bad-api-version.yaml",
     "x.yaml:1: NetworkPolicy shop/front: apiVersion: 'networking.k8s.io/v2' is not networking.k8s.io/v1; "
     "what was "
     "known of it before stays in force",
     false},
    {"bad-second-document.yaml",
     "x.yaml:5: NetworkPolicy shop/front: spec.ingress[0].ports[0].port: 70000 is not a port number from 1 "
     "to 65535; "
     "what was known of it before stays in force",
     false},
    {"bad-service.yaml",
     "x.yaml:1: Service shop/web: spec.loadBalancerSourceRanges[0]: 'office' is not a CIDR", false},
};

TEST(MalformedYaml, EachFileGivesItsErrorAndWhatWasKnownStays) {
  auto left = corpus::files("yaml", "bad-");
  for (const auto& [name, problem, whole] : kCases) {
    SCOPED_TRACE(name);
    left.erase(name);
    File file("x.yaml");
    file.update(kBefore);
    ASSERT_EQ(file.entries().size(), 2u);
    const auto before = file.entries().at(kFront).object;
    file.update(corpus::read("yaml", name));
    ASSERT_EQ(file.problems().size(), 1u);
    EXPECT_NE(file.problems()[0].find(problem), std::string::npos) << file.problems()[0];
    EXPECT_EQ(file.problems()[0].ends_with("what the file said before stays in force"), whole)
        << file.problems()[0];
    const bool is_front = std::string_view(problem).find("shop/front") != std::string_view::npos;
    if (whole || is_front) {
      ASSERT_TRUE(file.entries().contains(kFront));
      EXPECT_EQ(file.entries().at(kFront).object, before);
    }
    EXPECT_EQ(file.entries().contains(kOne), whole || std::string_view(name) == "bad-second-document.yaml");
    file.update(kBefore);
    EXPECT_TRUE(file.problems().empty());
  }
  EXPECT_TRUE(left.empty()) << "without a row: " << *left.begin();
}

TEST(MalformedYaml, GoodFilesGiveNoProblem) {
  for (const auto& name : corpus::files("yaml", "good")) {
    File file("x.yaml");
    file.update(corpus::read("yaml", name));
    EXPECT_TRUE(file.problems().empty()) << name << ": " << file.problems().front();
    EXPECT_TRUE(file.known());
  }
  File file("x.yaml");
  file.update(corpus::read("yaml", "good-anchors.yaml"));
  EXPECT_EQ(file.entries().size(), 2u);
}

// YAML that is cut may be YAML still (which is why files are to be written beside and renamed); then it is
// read, else all stays.
TEST(MalformedYaml, CutAnywhereAFileIsReadOrRefused) {
  const auto text = corpus::read("yaml", "good.yaml");
  File whole("x.yaml");
  whole.update(text);
  std::size_t refused = 0;
  for (std::size_t length = 0; length < text.size(); ++length) {
    SCOPED_TRACE(text.substr(0, length));
    File file("x.yaml");
    file.update(text);
    file.update(text.substr(0, length));
    for (const auto& [key, entry] : file.entries())
      EXPECT_TRUE(whole.entries().contains(key)) << to_string(key);
    if (file.problems().empty()) continue;
    ++refused;
    EXPECT_TRUE(file.entries().contains(kFront)) << file.problems()[0];
  }
  EXPECT_GT(refused, 100u);
}

// ---- a policy that is new and cannot be used ----------------------------------------------------------
std::string policy(const std::string& spec) {
  return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: front, namespace: "
         "shop}\nspec: " +
         spec + "\n";
}

TEST(MalformedYaml, ANewPolicyThatCannotBeUsedIsClosedUntilItCan) {
  File file("x.yaml");
  file.update(policy("{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 0}]}]}"));
  ASSERT_EQ(file.problems().size(), 1u);
  EXPECT_TRUE(file.problems()[0].ends_with(
      "until it is corrected, the pods that it selects are isolated and it admits nothing"))
      << file.problems()[0];
  auto closed = std::get<model::NetworkPolicy>(file.entries().at(kFront).object);
  EXPECT_EQ(closed.pod_selector.to_string(), "app=web");
  EXPECT_TRUE(closed.isolates_ingress && closed.ingress.empty());
  // Still wrong, for other pods: it follows.
  file.update(policy("{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 0}]}]}"));
  closed = std::get<model::NetworkPolicy>(file.entries().at(kFront).object);
  EXPECT_EQ(closed.pod_selector.to_string(), "app=db");
  // Right, then wrong again: what was right stays.
  file.update(policy("{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 80}]}]}"));
  EXPECT_TRUE(file.problems().empty());
  file.update(policy("{podSelector: {}, ingress: [{ports: [{port: 0}]}]}"));
  const auto kept = std::get<model::NetworkPolicy>(file.entries().at(kFront).object);
  EXPECT_EQ(kept.ingress.size(), 1u);
  EXPECT_TRUE(file.problems()[0].ends_with("what was known of it before stays in force"));
}

// ---- the folder
// ---------------------------------------------------------------------------------------------
class MalformedFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "sluice-folder-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
    folder_ = std::make_unique<Folder>(path_.string());
  }
  void TearDown() override { fs::remove_all(path_); }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name) << content;
  }
  Folder::Scanned scan() {
    const auto scanned = folder_->scan(sink_);
    EXPECT_TRUE(scanned) << scanned.error().message;
    return scanned.value_or(Folder::Scanned());
  }
  [[nodiscard]] static bool has(const Folder::Scanned& scanned, const std::string& part) {
    return std::ranges::any_of(scanned.problems,
                               [&](const auto& text) { return text.find(part) != std::string::npos; });
  }
  fs::path path_;
  RecordingSink sink_;
  std::unique_ptr<Folder> folder_;
};

TEST_F(MalformedFolder, WhateverAFileBecomesWhatItSaidStays) {
  write("a.yaml", kBefore);
  ASSERT_TRUE(scan().problems.empty());
  const auto before = sink_.state().objects;
  ASSERT_EQ(before.size(), 2u);
  const auto file = path_ / "a.yaml";
  const auto expect_kept = [&](const std::string& problem) {
    const auto scanned = scan();
    EXPECT_TRUE(has(scanned, problem)) << (scanned.problems.empty() ? "no problem" : scanned.problems[0]);
    EXPECT_TRUE(has(scanned, "what the file said before stays in force"));
    EXPECT_EQ(sink_.state().objects, before);
  };
  fs::remove(file);
  fs::create_symlink("nowhere", file);
  expect_kept("a.yaml: No such file or directory");
  fs::remove(file);
  fs::create_symlink("a.yaml", file);
  expect_kept("a.yaml: Too many levels of symbolic links");
  fs::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  expect_kept("a.yaml: is not a regular file");
  fs::remove(file);
  fs::create_symlink("/dev/zero", file);
  expect_kept("a.yaml: is not a regular file");
  fs::remove(file);
  write("a.yaml", "");
  fs::resize_file(file, (16 << 20) + 1);
  expect_kept("a.yaml: is larger than 16777216 bytes");
  fs::remove(file);
  fs::create_symlink("/proc/self/mem", file);  // opens, but cannot be read
  expect_kept("a.yaml: Input/output error");
  fs::remove(file);
  write("a.yaml", corpus::read("yaml", "bad-binary.yaml"));
  expect_kept("a.yaml:1: is not UTF-8");
  write("a.yaml", kBefore);
  EXPECT_TRUE(scan().problems.empty());
}

TEST_F(MalformedFolder, AFileThatIsGoneTakesItsObjectsAlong) {
  write("a.yaml", kBefore);
  scan();
  fs::remove(path_ / "a.yaml");
  EXPECT_TRUE(scan().problems.empty());
  EXPECT_TRUE(sink_.state().objects.empty());
}

TEST_F(MalformedFolder, TwoFilesWithOneObject) {
  write("a.yaml", kBefore);
  write("b.yaml", policy("{podSelector: {}, ingress: [{}]}"));
  const auto scanned = scan();
  EXPECT_TRUE(has(scanned, "b.yaml:1: NetworkPolicy shop/front stands in a.yaml:1 already; that one counts"));
  EXPECT_EQ(std::get<model::NetworkPolicy>(sink_.state().objects.at(kFront)).pod_selector.to_string(),
            "app=web");
}

// Before the first sync rules of an earlier daemon are in force; a file that nothing is known of may be what
// they came from.
TEST_F(MalformedFolder, TellsNothingAtFirstWhileAFileCannotBeRead) {
  write("a.yaml", kBefore);
  write("b.yaml", "spec: {\n");
  auto scanned = scan();
  EXPECT_TRUE(scanned.held);
  EXPECT_TRUE(has(scanned, "b.yaml:2: "));
  EXPECT_TRUE(has(scanned, "nothing is known of what the file says"));
  EXPECT_FALSE(sink_.state().synced());
  EXPECT_TRUE(sink_.state().objects.empty());
  write("b.yaml", "");
  scanned = scan();
  EXPECT_FALSE(scanned.held);
  EXPECT_TRUE(sink_.state().synced());
  EXPECT_EQ(sink_.state().objects.size(), 2u);
  // Later one more file like that holds up nothing.
  write("c.yaml", "spec: {\n");
  write("d.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
  scanned = scan();
  EXPECT_FALSE(scanned.held);
  EXPECT_TRUE(sink_.state().has(Kind::kNamespace, "shop"));
}

TEST_F(MalformedFolder, AnObjectThatCannotBeUsedHoldsUpNothing) {
  write("a.yaml", corpus::read("yaml", "bad-second-document.yaml"));
  EXPECT_FALSE(scan().held);
  EXPECT_TRUE(sink_.state().synced());
  EXPECT_EQ(sink_.state().names(Kind::kPod), (std::vector<std::string>{"one", "two"}));
  EXPECT_TRUE(sink_.state().has(Kind::kNetworkPolicy, "front")) << "closed";
}

}  // namespace
}  // namespace sluice::source
