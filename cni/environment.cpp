// SPDX-License-Identifier: Apache-2.0
#include "cni/environment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "daemon/server/api.h"

namespace sluice::cni {

namespace {

// A queued DEL is a file named by container ID and interface, and file names end at 255 bytes.
constexpr std::size_t kMaxContainerId = 200;
constexpr std::size_t kMaxIfname = 15;  // IFNAMSIZ without the terminating zero

struct CommandName {
  std::string_view name;
  Command command;
};
constexpr std::array<CommandName, 6> kCommands{{{"ADD", Command::kAdd},
                                                {"DEL", Command::kDel},
                                                {"CHECK", Command::kCheck},
                                                {"GC", Command::kGc},
                                                {"STATUS", Command::kStatus},
                                                {"VERSION", Command::kVersion}}};

tl::unexpected<Failure> invalid_environment(std::string msg, std::string details = "") {
  return fail(server::kCniInvalidEnvironment, std::move(msg), std::move(details));
}

bool is_alphanumeric(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

Outcome<Command> parse_command(const std::string& text) {
  for (const auto& each : kCommands)
    if (each.name == text) return each.command;
  return invalid_environment(fmt::format("CNI_COMMAND is '{}'", text),
                             "Sluice knows ADD, DEL, CHECK, GC, STATUS and VERSION");
}

Outcome<void> check_container_id(const std::string& id) {
  if (!is_cni_name(id))
    return invalid_environment(
        fmt::format("CNI_CONTAINERID '{}' is not valid", id),
        "it must start with a letter or digit and hold letters, digits, '_', '.' and '-' only");
  if (id.size() > kMaxContainerId)
    return invalid_environment(fmt::format("CNI_CONTAINERID has more than {} characters", kMaxContainerId));
  return {};
}

Outcome<void> check_ifname(const std::string& ifname) {
  // '%' would make the kernel choose a name by the pattern.
  const bool characters = std::all_of(ifname.begin(), ifname.end(), [](char c) {
    return c > ' ' && c < 127 && c != '/' && c != ':' && c != '%';
  });
  if (!characters || ifname.size() > kMaxIfname || ifname == "." || ifname == "..")
    return invalid_environment(
        fmt::format("CNI_IFNAME '{}' is not valid", ifname),
        fmt::format("an interface name has 1 to {} printable ASCII characters, without '/', ':' and '%'",
                    kMaxIfname));
  return {};
}

// "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"; keys that mean nothing to Sluice are let be.
Outcome<void> parse_args(std::string_view text, Environment& environment) {
  while (!text.empty()) {
    const auto end = text.find(';');
    const auto pair = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (pair.empty()) continue;
    const auto equals = pair.find('=');
    if (equals == std::string_view::npos)
      return invalid_environment(fmt::format("CNI_ARGS has '{}', which is no KEY=VALUE", pair));
    const auto key = pair.substr(0, equals);
    const std::string value(pair.substr(equals + 1));
    if (key == "K8S_POD_NAMESPACE") environment.pod_namespace = value;
    if (key == "K8S_POD_NAME") environment.pod_name = value;
    if (key == "K8S_POD_UID") environment.pod_uid = value;
  }
  return {};
}

}  // namespace

bool is_cni_name(std::string_view text) {
  return !text.empty() && is_alphanumeric(text.front()) && std::all_of(text.begin(), text.end(), [](char c) {
    return is_alphanumeric(c) || c == '_' || c == '.' || c == '-';
  });
}

Outcome<Environment> read_environment(const Variables& variables) {
  const auto value = [&](const char* name) { return variables(name).value_or(""); };
  const auto name = value("CNI_COMMAND");
  if (name.empty())
    return invalid_environment("CNI_COMMAND is not set",
                               "this is a CNI plugin: the container runtime calls it");
  auto command = parse_command(name);
  if (!command) return tl::unexpected(command.error());

  Environment environment;
  environment.command = *command;
  const bool of_network = *command == Command::kGc || *command == Command::kStatus;
  if (of_network || *command == Command::kVersion) return environment;

  environment.key = {value("CNI_CONTAINERID"), value("CNI_IFNAME")};
  environment.netns = value("CNI_NETNS");
  std::vector<std::string_view> missing;
  if (environment.key.container_id.empty()) missing.emplace_back("CNI_CONTAINERID");
  if (environment.key.ifname.empty()) missing.emplace_back("CNI_IFNAME");
  if (environment.netns.empty() && *command != Command::kDel) missing.emplace_back("CNI_NETNS");
  if (!missing.empty())
    return invalid_environment(fmt::format("{} needs {}", name, fmt::join(missing, ", ")));

  auto good = check_container_id(environment.key.container_id);
  if (good) good = check_ifname(environment.key.ifname);
  // The other commands need nothing of them; the DEL that follows an ADD refused for them must not be, too.
  if (good && *command == Command::kAdd) good = parse_args(value("CNI_ARGS"), environment);
  if (!good) return tl::unexpected(good.error());
  return environment;
}

}  // namespace sluice::cni
