// SPDX-License-Identifier: Apache-2.0
// What the plugin answers to every file of tests/corpus/cni. No command gets as far as the kernel or the
// daemon.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cni/config.h"
#include "cni/plugin.h"
#include "daemon/server/api.h"
#include "tests/unit/corpus.h"

namespace sluice::cni {
namespace {

using nlohmann::json;

Exit run_command(const std::string& command, const std::string& input) {
  const std::map<std::string, std::string> variables{{"CNI_COMMAND", command},
                                                     {"CNI_CONTAINERID", "abc123"},
                                                     {"CNI_NETNS", "/nonexistent/netns"},
                                                     {"CNI_IFNAME", "eth0"}};
  std::istringstream in(input);
  std::ostringstream log;
  return run({[&](const char* name) -> std::optional<std::string> {
                const auto found = variables.find(name);
                return found == variables.end() ? std::nullopt : std::optional(found->second);
              },
              in, log});
}

struct Case {
  const char* file;
  const char* command;
  int code;
  const char* words;  // that tell what is wrong, and of what
};

constexpr auto kDecode = server::kCniDecodeFailure, kConfig = server::kCniInvalidConfig,
               kVersion = server::kCniIncompatibleVersion, kEnvironment = server::kCniInvalidEnvironment;

const Case kCases[] = {
    // Good as far as they go: the answer is about the namespace that does not exist.
    {"good.json", "ADD", kEnvironment, "CNI_NETNS"},
    {"good-unknown-fields.json", "ADD", kEnvironment, "CNI_NETNS"},
    {"good-old-version.json", "ADD", kEnvironment, "CNI_NETNS"},
    {"good-prev-result.json", "CHECK", kEnvironment, "CNI_NETNS"},
    {"good-prev-result.json", "ADD", kConfig, "put the plugin of type sluice first"},
    {"bad-empty.json", "ADD", kDecode, "is not valid JSON"},
    {"bad-truncated.json", "ADD", kDecode, "is not valid JSON"},
    {"bad-not-an-object.json", "ADD", kDecode, "is not a JSON object"},
    {"bad-two-objects.json", "ADD", kDecode, "is not valid JSON"},
    {"bad-trailing-comma.json", "ADD", kDecode, "is not valid JSON"},
    {"bad-single-quotes.json", "ADD", kDecode, "is not valid JSON"},
    {"bad-utf8.json", "ADD", kDecode, "ill-formed UTF-8"},
    {"bad-utf8-cut-rune.json", "ADD", kDecode, "is not valid JSON"},
    {"bad-byte-order-mark.json", "ADD", kDecode, "is not valid JSON"},
    {"bad-nul.json", "ADD", kDecode, "is not valid JSON"},
    {"bad-lone-surrogate.json", "ADD", kDecode, "surrogate"},
    {"bad-duplicate-key.json", "ADD", kDecode, "has the key 'socket' twice"},
    {"bad-duplicate-key-inside.json", "CHECK", kDecode, "has the key 'address' twice"},
    {"bad-deep.json", "CHECK", kDecode, "nested deeper than 64"},
    {"bad-version-type.json", "ADD", kDecode, "'cniVersion' must be a string"},
    {"bad-version-future.json", "ADD", kVersion, "set cniVersion to one of 0.3.1, 0.4.0, 1.0.0, 1.1.0"},
    {"bad-version-missing.json", "ADD", kVersion, "'0.1.0'"},
    {"good-old-version.json", "CHECK", kVersion, "CHECK came with 0.4.0"},
    {"good-old-version.json", "GC", kVersion, "GC and STATUS with 1.1.0"},
    {"bad-name-missing.json", "ADD", kConfig, "no 'name'"},
    {"bad-name-type.json", "ADD", kConfig, "no 'name'"},
    {"bad-name-path.json", "ADD", kConfig, "'../../etc' is not valid"},
    {"bad-socket-relative.json", "ADD", kConfig, "'socket' must be an absolute path, not 'run/sluice.sock'"},
    {"bad-socket-type.json", "ADD", kConfig, "'socket' must be a string"},
    {"bad-socket-long.json", "ADD", kConfig, "'socket' is longer than 107 characters"},
    {"bad-socket-nul.json", "ADD", kConfig, "'socket' must be an absolute path"},
    {"bad-state-dir-type.json", "ADD", kConfig, "'stateDir' must be a string"},
    {"good-bandwidth.json", "ADD", kEnvironment, "CNI_NETNS"},
    {"bad-runtime-config-type.json", "ADD", kConfig, "'runtimeConfig' must be an object"},
    {"bad-bandwidth-type.json", "ADD", kConfig, "'runtimeConfig.bandwidth' must be an object"},
    {"bad-bandwidth-negative.json", "ADD", kConfig,
     "ingressRate' must be a whole number of bits and not -8000000"},
    {"bad-bandwidth-fraction.json", "ADD", kConfig,
     "egressRate' must be a whole number of bits and not 8000000.0"},
    {"bad-bandwidth-no-burst.json", "ADD", kConfig, "has 'egressRate' without 'egressBurst'"},
    {"bad-bandwidth-huge.json", "ADD", kConfig, "'egressRate' is 18446744073709551615 bits a second"},
    {"bad-prev-result-type.json", "CHECK", kConfig, "'prevResult' must be an object"},
    {"good.json", "CHECK", kConfig, "CHECK needs 'prevResult'"},
    {"bad-prev-result-garbage.json", "CHECK", kEnvironment, "CNI_NETNS"},
    {"bad-gc-missing.json", "GC", kConfig, "'cni.dev/valid-attachments' is missing"},
    {"bad-gc-type.json", "GC", kConfig, "'cni.dev/valid-attachments' must be a list"},
    {"bad-gc-entry.json", "GC", kConfig, "an entry without containerID or ifname"},
    {"bad-gc-entry-null.json", "GC", kConfig, "an entry without containerID or ifname"},
};

TEST(MalformedCni, EachFileGivesItsError) {
  std::set<std::string> left = corpus::files("cni", "bad-");
  for (const auto& [file, command, code, words] : kCases) {
    SCOPED_TRACE(std::string(command) + " " + file);
    left.erase(file);
    const auto [status, output] = run_command(command, corpus::read("cni", file));
    EXPECT_EQ(status, 1);
    const auto body = json::parse(output, nullptr, false);
    ASSERT_TRUE(body.is_object()) << output;
    EXPECT_EQ(body.value("code", 0), code) << output;
    EXPECT_TRUE(body.contains("cniVersion")) << output;
    EXPECT_NE(output.find(words), std::string::npos) << output;
  }
  EXPECT_TRUE(left.empty()) << "without a row: " << *left.begin();
}

// GC removes what is not in its list, so a list that is half understood must remove nothing: no file that is
// refused leaves attachments behind it, and an explicit null is an empty list.
TEST(MalformedCni, GcTakesAListWholeOrNotAtAll) {
  const auto read = [](const std::string& file) {
    return parse_config(*parse_document(corpus::read("cni", file)), Version::k1_1_0, Command::kGc);
  };
  EXPECT_EQ(read("good-gc.json")->valid_attachments.size(), 1u);
  EXPECT_TRUE(read("good-gc-null.json")->valid_attachments.empty());
  for (const auto* file :
       {"bad-gc-missing.json", "bad-gc-type.json", "bad-gc-entry.json", "bad-gc-entry-null.json"})
    EXPECT_FALSE(read(file)) << file;
}

TEST(MalformedCni, NeitherDepthNorSizeEndsTheProcess) {
  const std::string head = R"({"cniVersion":"1.1.0","name":"sluice","prevResult":{"a":)";
  for (const auto& [open, close] : {std::pair<std::string, std::string>{"[", "]"}, {R"({"a":)", "}"}}) {
    for (const std::size_t depth : {60u, 70u, 100'000u}) {
      std::string deep = head;
      for (std::size_t i = 0; i < depth; ++i) deep += open;
      deep += "1";
      for (std::size_t i = 0; i < depth; ++i) deep += close;
      const auto [status, output] = run_command("CHECK", deep + "}}");
      EXPECT_EQ(status, 1);
      EXPECT_EQ(output.find("nested deeper than 64") != std::string::npos, depth > 60)
          << output.substr(0, 200);
    }
  }
  // A megabyte of keys, each known once.
  std::string many = R"({"cniVersion":"1.1.0","name":"sluice")";
  for (int i = 0; many.size() < (1 << 20) - 20; ++i) many += ",\"k" + std::to_string(i) + "\":0";
  EXPECT_NE(run_command("ADD", many + "}").output.find("CNI_NETNS"), std::string::npos);
}

}  // namespace
}  // namespace sluice::cni
