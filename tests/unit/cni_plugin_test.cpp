// SPDX-License-Identifier: Apache-2.0
// What the CNI plugin answers before it touches anything: environment, standard input, versions. Every case
// here ends in an error or needs no kernel; tests/netns/cni_test.py has the rest.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cni/plugin.h"
#include "daemon/server/api.h"

namespace sluice::cni {
namespace {

using nlohmann::json;
using Settings = std::map<std::string, std::string>;

struct Run {
  int status;
  std::string output;
  json body;
};

Run run_with(const Settings& settings, const std::string& input) {
  std::istringstream in(input);
  std::ostringstream log;
  const auto lookup = [&](const char* name) -> std::optional<std::string> {
    const auto found = settings.find(name);
    return found == settings.end() ? std::nullopt : std::optional(found->second);
  };
  auto [status, output] = run({lookup, in, log});
  auto body = output.empty() ? json() : json::parse(output, nullptr, false);
  EXPECT_FALSE(body.is_discarded()) << output;
  return {status, output, body};
}

Settings settings_for(const std::string& command) {
  // No netns of this path exists: what gets through the checks of an ADD ends there.
  return {{"CNI_COMMAND", command},
          {"CNI_CONTAINERID", "abc123"},
          {"CNI_NETNS", "/nonexistent/netns"},
          {"CNI_IFNAME", "eth0"},
          {"CNI_PATH", "/opt/cni/bin"}};
}

json config_of(const std::string& version) {
  return {{"cniVersion", version},
          {"name", "sluice"},
          {"type", "sluice"},
          {"socket", "/nonexistent/sluice.sock"},
          {"stateDir", "/nonexistent/x"},
          {"bpffs", "/nonexistent/bpf"},
          {"cni.dev/valid-attachments", json::array()}};
}

void expect_error(const Run& run, int code, const std::string& words) {
  ASSERT_EQ(run.status, 1) << run.output;
  ASSERT_TRUE(run.body.is_object()) << run.output;
  EXPECT_EQ(run.body.value("code", 0), code) << run.output;
  EXPECT_NE(run.output.find(words), std::string::npos) << run.output;
  EXPECT_FALSE(run.body.value("msg", "").empty()) << run.output;
  EXPECT_TRUE(run.body.contains("cniVersion")) << run.output;
}

TEST(CniVersion, NamesWhatWasAskedAndAllThatIsSupported) {
  const json all{"0.3.1", "0.4.0", "1.0.0", "1.1.0"};
  for (const std::string asked : {"0.1.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "2.0.0"}) {
    const auto run = run_with({{"CNI_COMMAND", "VERSION"}}, json{{"cniVersion", asked}}.dump());
    EXPECT_EQ(run.status, 0);
    EXPECT_EQ(run.body, (json{{"cniVersion", asked}, {"supportedVersions", all}}));
  }
  EXPECT_EQ(supported_versions(Plugin::kLoopback),
            (std::vector<std::string>{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}));
  for (const std::string input : {"", " \n", "{}"}) {
    const auto run = run_with({{"CNI_COMMAND", "VERSION"}}, input);
    EXPECT_EQ(run.status, 0);
    EXPECT_EQ(run.body, (json{{"cniVersion", "1.1.0"}, {"supportedVersions", all}}));
  }
  expect_error(run_with({{"CNI_COMMAND", "VERSION"}}, "{"), server::kCniDecodeFailure, "JSON");
  expect_error(run_with({{"CNI_COMMAND", "VERSION"}}, R"({"cniVersion":1})"), server::kCniDecodeFailure,
               "cniVersion");
}

TEST(CniVersion, EachCommandIsRefusedInVersionsThatDoNotHaveIt) {
  const std::vector<std::string> versions{"",      "0.1.0", "0.2.0", "0.3.0", "0.3.1",
                                          "0.4.0", "1.0.0", "1.1.0", "1.2.0", "v1.1.0"};
  // What the commands answer once the version is right, without a daemon or a namespace.
  const std::map<std::string, std::pair<std::string, int>> commands{
      {"ADD", {"0.3.1", server::kCniInvalidEnvironment}},
      {"CHECK", {"0.4.0", server::kCniInvalidConfig}},
      {"GC", {"1.1.0", server::kCniInvalidConfig}},
      {"STATUS", {"1.1.0", server::kCniPluginNotAvailable}}};
  const std::vector<std::string> supported{"0.3.1", "0.4.0", "1.0.0", "1.1.0"};
  for (const auto& [command, expectation] : commands) {
    for (const auto& version : versions) {
      SCOPED_TRACE(command + " " + version);
      auto config = config_of(version);
      config.erase("cni.dev/valid-attachments");
      const bool good = std::find(supported.begin(), supported.end(), version) != supported.end() &&
                        version >= expectation.first;
      const auto run = run_with(settings_for(command), config.dump());
      expect_error(run, good ? expectation.second : int{server::kCniIncompatibleVersion}, "");
      EXPECT_EQ(run.body["cniVersion"], good ? version : "1.1.0");
    }
  }
}

TEST(CniVersion, AbsentMeansOneThatIsTooOld) {
  auto config = config_of("1.1.0");
  config.erase("cniVersion");
  expect_error(run_with(settings_for("ADD"), config.dump()), server::kCniIncompatibleVersion, "0.1.0");
  config["cniVersion"] = nullptr;
  expect_error(run_with(settings_for("ADD"), config.dump()), server::kCniDecodeFailure, "cniVersion");
}

TEST(CniInput, EveryTruncationIsADecodeFailure) {
  auto config = config_of("1.1.0");
  config["prevResult"] = {{"ips", {{{"address", "10.0.0.1/24"}}}}, {"text", "\u00e4\\n"}, {"number", -1.5e3}};
  const auto text = config.dump();
  for (const std::string command : {"ADD", "DEL", "CHECK", "GC", "STATUS"}) {
    for (std::size_t length = 0; length < text.size(); ++length) {
      SCOPED_TRACE(command + " " + text.substr(0, length));
      expect_error(run_with(settings_for(command), text.substr(0, length)), server::kCniDecodeFailure,
                   "JSON");
    }
  }
}

TEST(CniInput, EveryDamagedByteEndsInAnErrorOrInTheSameAnswer) {
  const auto text = config_of("1.1.0").dump();
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (const char byte : {'\0', '\xff', '"', '{', '}', '0', '\\'}) {
      auto damaged = text;
      damaged[at] = byte;
      const auto run = run_with(settings_for("ADD"), damaged);
      EXPECT_EQ(run.status, 1);
      EXPECT_TRUE(run.body.is_object()) << damaged;
    }
  }
}

TEST(CniInput, IsBounded) {
  auto config = config_of("1.1.0");
  config["padding"] =
      std::string((1 << 20) - config.dump().size() - std::string(R"(,"padding":"")").size(), 'x');
  ASSERT_EQ(config.dump().size(), 1U << 20);
  expect_error(run_with(settings_for("STATUS"), config.dump()), server::kCniPluginNotAvailable, "sluiced");
  expect_error(run_with(settings_for("STATUS"), config.dump() + " "), server::kCniIoFailure, "1048576");
  expect_error(run_with(settings_for("STATUS"), std::string(1 << 20, '[')), server::kCniDecodeFailure,
               "JSON");
}

TEST(CniInput, MustBeAnObjectWithUsableKeys) {
  for (const std::string input : {"null", "[]", "1", "\"text\"", "true"})
    expect_error(run_with(settings_for("ADD"), input), server::kCniDecodeFailure, "object");

  struct Case {
    std::string key;
    json value;
    std::string words;
  };
  const std::vector<Case> cases{{"name", nullptr, "name"},
                                {"name", 1, "name"},
                                {"name", "", "name"},
                                {"name", "../x", "../x"},
                                {"name", "-x", "-x"},
                                {"name", "a b", "a b"},
                                {"socket", 1, "socket"},
                                {"socket", "", "socket"},
                                {"socket", "relative.sock", "relative.sock"},
                                {"socket", "/" + std::string(107, 'x'), "longer"},
                                {"socket", std::string("/a\0b", 4), "absolute"},
                                {"stateDir", json::array(), "stateDir"},
                                {"stateDir", "state", "stateDir"},
                                {"bpffs", "bpf", "bpffs"},
                                {"prevResult", "text", "prevResult"},
                                {"prevResult", json::object(), "first"}};
  for (const auto& [key, value, words] : cases) {
    auto config = config_of("1.1.0");
    config[key] = value;
    SCOPED_TRACE(config.dump());
    expect_error(run_with(settings_for("ADD"), config.dump()), server::kCniInvalidConfig, words);
  }
  auto config = config_of("1.1.0");
  config.erase("name");
  expect_error(run_with(settings_for("ADD"), config.dump()), server::kCniInvalidConfig, "name");
  // A key that is not ours, and a prevResult that is there but empty, are no reason to refuse.
  config = config_of("1.1.0");
  config["unknown"] = {1, 2, 3};
  config["prevResult"] = nullptr;
  expect_error(run_with(settings_for("ADD"), config.dump()), server::kCniInvalidEnvironment, "CNI_NETNS");
}

TEST(CniEnvironment, WhatIsMissingIsNamed) {
  const auto input = config_of("1.1.0").dump();
  expect_error(run_with({}, input), server::kCniInvalidEnvironment, "CNI_COMMAND");
  expect_error(run_with({{"CNI_COMMAND", "add"}}, input), server::kCniInvalidEnvironment, "'add'");
  for (const std::string command : {"ADD", "CHECK", "DEL"}) {
    for (const std::string name : {"CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"}) {
      if (command == "DEL" && name == "CNI_NETNS") continue;  // may be missing there
      SCOPED_TRACE(command + " " + name);
      auto settings = settings_for(command);
      settings.erase(name);
      expect_error(run_with(settings, input), server::kCniInvalidEnvironment, name);
      settings[name] = "";
      expect_error(run_with(settings, input), server::kCniInvalidEnvironment, name);
    }
    expect_error(run_with({{"CNI_COMMAND", command}}, input), server::kCniInvalidEnvironment,
                 "CNI_CONTAINERID, CNI_IFNAME");
  }
}

TEST(CniEnvironment, WhatIsNotValidIsNamed) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"CNI_CONTAINERID", "-abc"},
      {"CNI_CONTAINERID", "a/b"},
      {"CNI_CONTAINERID", "../abc"},
      {"CNI_CONTAINERID", "a b"},
      {"CNI_CONTAINERID", "a\xff"},
      {"CNI_CONTAINERID", "\u00e4"},
      {"CNI_CONTAINERID", "a\n"},
      {"CNI_CONTAINERID", std::string(201, 'a')},
      {"CNI_IFNAME", "sixteencharacter"},
      {"CNI_IFNAME", "."},
      {"CNI_IFNAME", ".."},
      {"CNI_IFNAME", "a/b"},
      {"CNI_IFNAME", "eth0:1"},
      {"CNI_IFNAME", "eth 0"},
      {"CNI_IFNAME", "eth%d"},
      {"CNI_IFNAME", "eth\t"},
      {"CNI_IFNAME", "\xff"},
  };
  const auto input = config_of("1.1.0").dump();
  for (const std::string command : {"ADD", "CHECK", "DEL"}) {
    for (const auto& [name, value] : cases) {
      auto settings = settings_for(command);
      settings[name] = value;
      SCOPED_TRACE(command + " " + name + "=" + value);
      expect_error(run_with(settings, input), server::kCniInvalidEnvironment, name);
    }
  }
}

// A DEL follows the ADD that was refused, with the same arguments.
TEST(CniEnvironment, ArgumentsThatAreNoPairsAreRefusedByAddAlone) {
  const auto input = config_of("1.1.0").dump();
  for (const char* arguments : {"K8S_POD_NAME", "A=B;C"}) {
    auto settings = settings_for("ADD");
    settings["CNI_ARGS"] = arguments;
    expect_error(run_with(settings, input), server::kCniInvalidEnvironment, "CNI_ARGS");
    for (const char* command : {"CHECK", "DEL"}) {
      settings["CNI_COMMAND"] = command;
      EXPECT_TRUE(read_environment([&](const char* name) { return std::optional(settings[name]); }))
          << command;
    }
  }
}

TEST(CniEnvironment, ArgumentsOfKubernetesAreFound) {
  auto settings = settings_for("ADD");
  settings["CNI_ARGS"] = "IgnoreUnknown=1;K8S_POD_NAMESPACE=kube-system;;K8S_POD_NAME=a=b;X=;K8S_POD_UID=u";
  const auto environment = read_environment([&](const char* name) { return std::optional(settings[name]); });
  ASSERT_TRUE(environment) << environment.error().msg;
  EXPECT_EQ(environment->pod_namespace, "kube-system");
  EXPECT_EQ(environment->pod_name, "a=b");
  EXPECT_EQ(environment->pod_uid, "u");
  EXPECT_EQ(environment->key.container_id, "abc123");
}

}  // namespace
}  // namespace sluice::cni
