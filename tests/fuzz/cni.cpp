// SPDX-License-Identifier: Apache-2.0
// What the CNI plugin reads before it touches anything: standard input as the network configuration of every
// command, and as the daemon's answer; the same bytes as CNI_ARGS, container ID and interface name.
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "cni/config.h"
#include "cni/daemon.h"
#include "cni/environment.h"
#include "cni/pod_network.h"
#include "cni/result_json.h"
#include "common/host_link.h"

namespace sluice::cni {
namespace {

constexpr Command kCommands[] = {Command::kAdd, Command::kDel, Command::kCheck, Command::kGc,
                                 Command::kStatus};

// An error is told, whatever is in it: JSON with a text.
void check(const Failure& failure) {
  const auto told = nlohmann::json::parse(error_result(kNewestVersion, failure), nullptr, false);
  if (told.is_discarded() || failure.msg.empty() || failure.code == 0) std::abort();
}

void read_config(const nlohmann::json& document, Command command, Plugin plugin) {
  const auto text = version_text(document);
  if (!text) return check(text.error());
  if (version_result(*text, plugin).empty()) std::abort();
  const auto version = parse_version(*text, command, plugin);
  if (!version) return check(version.error());
  const auto config = parse_config(document, *version, command);
  if (!config) return check(config.error());
  if (config->socket.front() != '/' || config->state_dir.front() != '/' || config->bpffs.front() != '/' ||
      !is_cni_name(config->name))
    std::abort();
  for (const auto& limit : {config->bandwidth.ingress, config->bandwidth.egress})
    if (limit && (limit->bytes_per_s < 125 || limit->queue_bytes() < limit->burst_bytes)) std::abort();
  for (const auto& key : config->valid_attachments)
    if (key.container_id.empty() || key.ifname.empty()) std::abort();
  if (config->prev_result && nlohmann::json::parse(dump(*config->prev_result), nullptr, false).is_discarded())
    std::abort();
}

void read_parameters(const std::string& text, bool as_arguments) {
  const auto environment = read_environment([&](const char* name) -> std::optional<std::string> {
    const std::string_view wanted = name;
    if (wanted == "CNI_COMMAND") return "ADD";
    if (wanted == "CNI_ARGS") return as_arguments ? text : "";
    return as_arguments ? "abc" : text;
  });
  if (!environment) return check(environment.error());
  // It becomes a file's name.
  if (environment->key.container_id.find('/') != std::string::npos || environment->key.ifname.size() > 15 ||
      !is_host_link_name(host_link_name(environment->key.container_id, environment->key.ifname)))
    std::abort();
}

}  // namespace
}  // namespace sluice::cni

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice::cni;
  const std::string text(reinterpret_cast<const char*>(data), size);
  read_parameters(text, true);
  read_parameters(text, false);
  const auto document = parse_document(text);
  if (!document) {
    check(document.error());
    return 0;
  }
  for (const auto plugin : {Plugin::kSluice, Plugin::kLoopback})
    for (const auto command : kCommands) read_config(*document, command, plugin);
  if (const auto network = parse_pod_network(*document); !network) check(network.error());
  return 0;
}
