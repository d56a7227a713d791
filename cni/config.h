// SPDX-License-Identifier: Apache-2.0
// The configuration that the runtime gives on standard input (CNI spec 1.1, section 1), and the versions of
// the specification that Sluice speaks.
#pragma once

#include <compare>
#include <istream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cni/bandwidth.h"
#include "cni/environment.h"
#include "cni/failure.h"
#include "common/host_port.h"
#include "common/paths.h"

namespace sluice::cni {

enum class Plugin { kSluice, kLoopback };
// In order, so that they compare.
enum class Version { k0_1_0, k0_2_0, k0_3_0, k0_3_1, k0_4_0, k1_0_0, k1_1_0 };
inline constexpr Version kNewestVersion = Version::k1_1_0;

// `loopback` speaks the oldest ones too: cri-dockerd calls it so.
[[nodiscard]] std::vector<std::string> supported_versions(Plugin plugin);
[[nodiscard]] const std::string& to_string(Version version);

struct Config {
  Version version = kNewestVersion;
  std::string name;
  std::string socket = kDefaultSocket;
  std::string state_dir = kDefaultStateDir;
  std::string bpffs = kDefaultBpffs;  // where the daemon's pins are
  // Of pods whose runtime names no namespace; empty: those are no Kubernetes pods.
  std::string pod_namespace;
  std::optional<nlohmann::json> prev_result;     // an object
  std::vector<AttachmentKey> valid_attachments;  // GC
  Bandwidth bandwidth;                           // ADD, CHECK
  std::vector<HostPort> host_ports;              // ADD
};

// At most 1 MiB.
[[nodiscard]] Outcome<std::string> read_input(std::istream& input);
// A JSON object.
[[nodiscard]] Outcome<nlohmann::json> parse_document(const std::string& text);
// Of `cniVersion`; a document without it means 0.1.0.
[[nodiscard]] Outcome<std::string> version_text(const nlohmann::json& document);
[[nodiscard]] Outcome<Version> parse_version(const std::string& text, Command command, Plugin plugin);
[[nodiscard]] Outcome<Config> parse_config(const nlohmann::json& document, Version version, Command command);

}  // namespace sluice::cni
