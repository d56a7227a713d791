// SPDX-License-Identifier: Apache-2.0
#include "cni/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <functional>

#include "common/json_guard.h"
#include "daemon/server/api.h"

namespace sluice::cni {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxInput = 1 << 20;
constexpr int kMaxDepth = 64;
constexpr const char* kValidAttachments = "cni.dev/valid-attachments";
const std::vector<std::string> kVersions{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

Version first_version(Plugin plugin) {
  return plugin == Plugin::kLoopback ? Version::k0_1_0 : Version::k0_3_1;
}

// Sets `path` if the key is there. Both sides of the plugin's work need a path that means the same to the
// daemon.
Outcome<void> read_path(const json& document, const char* key, std::size_t most, std::string& path) {
  const auto found = document.find(key);
  if (found == document.end()) return {};
  if (!found->is_string()) return invalid_config(fmt::format("'{}' must be a string", key));
  path = found->get<std::string>();
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string::npos)
    return invalid_config(fmt::format("'{}' must be an absolute path, not '{}'", key, path));
  if (path.size() > most) return invalid_config(fmt::format("'{}' is longer than {} characters", key, most));
  return {};
}

Outcome<void> read_pod_namespace(const json& document, std::string& ns) {
  const auto found = document.find("podNamespace");
  if (found == document.end()) return {};
  if (!found->is_string() || found->get<std::string>().empty())
    return invalid_config("'podNamespace' must be the name of a Kubernetes namespace");
  ns = found->get<std::string>();
  return {};
}

Outcome<std::vector<AttachmentKey>> read_attachments(const json& document) {
  const auto found = document.find(kValidAttachments);
  // Absent is not empty: an empty list says that everything is stale.
  if (found == document.end())
    return invalid_config(fmt::format("'{}' is missing", kValidAttachments),
                          "GC needs the attachments to keep");
  std::vector<AttachmentKey> attachments;
  if (found->is_null()) return attachments;  // how libcni writes an empty list
  if (!found->is_array()) return invalid_config(fmt::format("'{}' must be a list", kValidAttachments));
  for (const auto& each : *found) {
    const auto text = [&](const char* key) {
      const auto value = each.is_object() ? each.find(key) : each.end();
      return value != each.end() && value->is_string() ? value->get<std::string>() : std::string();
    };
    attachments.push_back({text("containerID"), text("ifname")});
    if (attachments.back().container_id.empty() || attachments.back().ifname.empty())
      return invalid_config(
          fmt::format("'{}' has an entry without containerID or ifname", kValidAttachments));
  }
  return attachments;
}

Outcome<std::vector<HostPort>> read_host_ports(const json& document) {
  const auto runtime = document.find("runtimeConfig");
  if (runtime == document.end() || !runtime->is_object() || !runtime->contains("portMappings"))
    return std::vector<HostPort>{};
  auto ports = parse_host_ports(runtime->at("portMappings"));
  if (!ports)
    return invalid_config("'runtimeConfig.portMappings' (hostPort of the pod's containers) is not valid",
                          ports.error().message);
  for (std::size_t i = 0; i < ports->size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if ((*ports)[i].collides_with((*ports)[j]))
        return invalid_config("'runtimeConfig.portMappings' has two entries for one port",
                              fmt::format("{} and {}", (*ports)[j].to_string(), (*ports)[i].to_string()));
  return std::move(*ports);
}

}  // namespace

std::vector<std::string> supported_versions(Plugin plugin) {
  const auto first = static_cast<std::size_t>(first_version(plugin));
  return {kVersions.begin() + static_cast<std::ptrdiff_t>(first), kVersions.end()};
}

const std::string& to_string(Version version) { return kVersions.at(static_cast<std::size_t>(version)); }

Outcome<std::string> read_input(std::istream& input) {
  std::string text;
  std::array<char, 4096> chunk;
  while (input && text.size() <= kMaxInput) {
    input.read(chunk.data(), chunk.size());
    text.append(chunk.data(), static_cast<std::size_t>(input.gcount()));
  }
  if (input.bad())
    return fail(server::kCniIoFailure, "the network configuration could not be read from stdin");
  if (text.size() > kMaxInput)
    return fail(server::kCniIoFailure,
                fmt::format("the network configuration has more than {} bytes", kMaxInput));
  return text;
}

Outcome<json> parse_document(const std::string& text) {
  try {
    // Where the parser would see the end, whatever comes behind.
    if (text.find('\0') != std::string::npos)
      return fail(server::kCniDecodeFailure, "the network configuration is not valid JSON",
                  "it has a zero byte");
    JsonGuard guard(kMaxDepth);
    auto document = json::parse(text, std::ref(guard));
    if (guard.too_deep())
      return fail(server::kCniDecodeFailure,
                  fmt::format("the network configuration is nested deeper than {}", kMaxDepth));
    if (guard.repeated_key())
      return fail(
          server::kCniDecodeFailure,
          fmt::format("the network configuration has the key '{}' twice in one object; leave one of them",
                      *guard.repeated_key()));
    if (document.is_object()) return document;
    return fail(server::kCniDecodeFailure, "the network configuration is not a JSON object");
  } catch (const json::exception& exception) {
    return fail(server::kCniDecodeFailure, "the network configuration is not valid JSON", exception.what());
  }
}

Outcome<std::string> version_text(const json& document) {
  const auto found = document.find("cniVersion");
  if (found == document.end()) return "0.1.0";
  if (!found->is_string()) return fail(server::kCniDecodeFailure, "'cniVersion' must be a string");
  return found->get<std::string>();
}

Outcome<Version> parse_version(const std::string& text, Command command, Plugin plugin) {
  const auto found = std::find(kVersions.begin(), kVersions.end(), text);
  const auto version = static_cast<Version>(found - kVersions.begin());
  if (found == kVersions.end() || version < first_version(plugin))
    return fail(server::kCniIncompatibleVersion, fmt::format("CNI version '{}' is not supported", text),
                fmt::format("set cniVersion to one of {} in the network configuration",
                            fmt::join(supported_versions(plugin), ", ")));
  const auto first = command == Command::kCheck                               ? Version::k0_4_0
                     : command == Command::kGc || command == Command::kStatus ? Version::k1_1_0
                                                                              : Version::k0_1_0;
  if (version < first)
    return fail(server::kCniIncompatibleVersion, fmt::format("CNI version {} has no such command", text),
                fmt::format("CHECK came with 0.4.0, GC and STATUS with 1.1.0"));
  return version;
}

Outcome<Config> parse_config(const json& document, Version version, Command command) {
  Config config;
  config.version = version;
  const auto name = document.find("name");
  if (name == document.end() || !name->is_string())
    return invalid_config("the network configuration has no 'name'");
  config.name = name->get<std::string>();
  if (!is_cni_name(config.name))
    return invalid_config(
        fmt::format("the network name '{}' is not valid", config.name),
        "it must start with a letter or digit and hold letters, digits, '_', '.' and '-' only");
  auto good = read_path(document, "socket", sizeof(sockaddr_un::sun_path) - 1, config.socket);
  if (good) good = read_path(document, "stateDir", 1024, config.state_dir);
  if (good) good = read_path(document, "bpffs", 1024, config.bpffs);
  if (good && command == Command::kAdd) good = read_pod_namespace(document, config.pod_namespace);
  if (!good) return tl::unexpected(good.error());

  // DEL goes on whatever the earlier result looks like.
  const auto previous = document.find("prevResult");
  if (command != Command::kDel && previous != document.end() && !previous->is_null()) {
    if (!previous->is_object()) return invalid_config("'prevResult' must be an object");
    config.prev_result = *previous;
  }
  if (command == Command::kAdd || command == Command::kCheck) {
    const auto bandwidth = read_bandwidth(document);
    if (!bandwidth) return tl::unexpected(bandwidth.error());
    config.bandwidth = *bandwidth;
  }
  if (command == Command::kAdd) {
    auto host_ports = read_host_ports(document);
    if (!host_ports) return tl::unexpected(host_ports.error());
    config.host_ports = std::move(*host_ports);
  }
  if (command == Command::kGc) {
    auto attachments = read_attachments(document);
    if (!attachments) return tl::unexpected(attachments.error());
    config.valid_attachments = std::move(*attachments);
  }
  return config;
}

}  // namespace sluice::cni
