// SPDX-License-Identifier: Apache-2.0
#include "cni/plugin.h"

#include "cni/commands.h"
#include "cni/config.h"
#include "cni/result_json.h"
#include "daemon/server/api.h"

namespace sluice::cni {

namespace {

// VERSION asks before anything is agreed upon: whatever version the runtime names, it learns ours. It may
// send nothing.
Outcome<std::string> answer_version(const std::string& input, Plugin plugin) {
  if (input.find_first_not_of(" \t\r\n") == std::string::npos)
    return version_result(to_string(kNewestVersion), plugin);
  const auto document = parse_document(input);
  if (!document) return tl::unexpected(document.error());
  if (!document->contains("cniVersion")) return version_result(to_string(kNewestVersion), plugin);
  const auto asked = version_text(*document);
  if (!asked) return tl::unexpected(asked.error());
  return version_result(*asked, plugin);
}

Outcome<std::string> dispatch(const Context& context) {
  switch (context.environment.command) {
    case Command::kAdd:
      return add(context);
    case Command::kDel:
      return del(context);
    case Command::kCheck:
      return check(context);
    case Command::kGc:
      return gc(context);
    case Command::kStatus:
      return status(context);
    case Command::kVersion:
      break;  // answered without a configuration
  }
  return fail(server::kCniInternal, "no such command");
}

// `version` becomes the one that the runtime speaks as soon as that is known, for the error's sake.
Outcome<std::string> execute(const Process& process, Version& version) {
  const auto environment = read_environment(process.variables);
  if (!environment) return tl::unexpected(environment.error());
  const auto input = read_input(process.input);
  if (!input) return tl::unexpected(input.error());
  if (environment->command == Command::kVersion) return answer_version(*input, process.plugin);

  const auto document = parse_document(*input);
  if (!document) return tl::unexpected(document.error());
  const auto text = version_text(*document);
  if (!text) return tl::unexpected(text.error());
  const auto spoken = parse_version(*text, environment->command, process.plugin);
  if (!spoken) return tl::unexpected(spoken.error());
  version = *spoken;
  const auto config = parse_config(*document, version, environment->command);
  if (!config) return tl::unexpected(config.error());
  const Context context{*environment, *config, process.log, process.stop_fd};
  return process.plugin == Plugin::kLoopback ? loopback(context) : dispatch(context);
}

}  // namespace

Plugin plugin_of(std::string_view path) {
  const auto slash = path.rfind('/');
  const auto name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  return name == "loopback" ? Plugin::kLoopback : Plugin::kSluice;
}

Exit run(const Process& process) {
  Version version = kNewestVersion;
  auto outcome = execute(process, version);
  if (outcome) return {0, outcome->empty() ? "" : *outcome + "\n"};
  return {1, error_result(version, outcome.error()) + "\n"};
}

}  // namespace sluice::cni
