// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/render.h"
#include "common/paths.h"

namespace sluice::cli {

using nlohmann::json;

namespace {

struct Options {
  std::string socket = kDefaultSocket;
  std::string output = "table";
  std::string endpoint;
  bool drops = false;
  bool verdicts = false;
};

// An endpoint id, namespace/pod or address; all of them need no escaping in a path.
std::string check_endpoint(const std::string& text) {
  const bool good = !text.empty() && text.find_first_not_of(
                                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789.:/-") == std::string::npos;
  return good ? "" : "'" + text + "' is no endpoint id, namespace/pod or address";
}

using Render = std::function<std::string(const json&)>;

Result<void> show(const Options& options, const std::string& path, const Render& render, std::ostream& out) {
  auto answer = Client(options.socket).get(path);
  if (!answer) return tl::unexpected(answer.error());
  try {
    out << (options.output == "json" ? answer->dump(2) + "\n" : render(*answer)) << std::flush;
    return {};
  } catch (const json::exception& error) {
    return failure(
        "this sluicectl ({}) does not understand what sluiced answered: {}; use the sluicectl of the same "
        "version, or -o json",
        SLUICE_VERSION, error.what());
  }
}

Result<void> monitor(const Options& options, std::ostream& out) {
  const bool both = options.drops == options.verdicts;
  const std::string path = std::string("/v1/monitor?drops=") + (both || options.drops ? "1" : "0") +
                           "&verdicts=" + (both || options.verdicts ? "1" : "0");
  std::string problem;
  auto done = Client(options.socket).stream(path, [&](const std::string& line) {
    try {
      out << (options.output == "json" ? line : render_event(json::parse(line))) << std::endl;
    } catch (const json::exception& error) {
      problem = error.what();
    }
    return problem.empty() && out.good();
  });
  if (!problem.empty())
    return failure("this sluicectl ({}) does not understand an event: {}; use -o json", SLUICE_VERSION,
                   problem);
  return done;
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  Options options;
  CLI::App app("Shows what Sluice does on this node.", "sluicectl");
  app.set_version_flag("--version", std::string("sluicectl ") + SLUICE_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--socket", options.socket, "Socket of sluiced")->capture_default_str();
  app.add_option("-o,--output", options.output, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  const Time now = std::chrono::system_clock::now();
  Result<void> done;
  const auto command = [&](const char* name, const char* help, auto action) {
    auto* sub = app.add_subcommand(name, help);
    sub->final_callback([&done, action] { done = action(); });
    return sub;
  };
  command("status", "The daemon, its source, addresses, firewall and packet counters", [&] {
    return show(
        options, "/v1/status", [&](const json& answer) { return render_status(answer, now); }, out);
  });
  command("endpoints", "The pods attached to this node",
          [&] { return show(options, "/v1/endpoints", render_endpoints, out); });
  command("policy", "What the NetworkPolicies allow one endpoint",
          [&] { return show(options, "/v1/endpoints/" + options.endpoint + "/policy", render_policy, out); })
      ->add_option("endpoint", options.endpoint, "Endpoint id, namespace/pod or address")
      ->required()
      ->check(check_endpoint);
  command("firewall", "The firewall's generations: when, why, how long, what they judged", [&] {
    return show(
        options, "/v1/firewall", [&](const json& answer) { return render_firewall(answer, now); }, out);
  });
  command("services", "The addresses of Services, and who serves them from this node",
          [&] { return show(options, "/v1/services", render_services, out); });
  command("modules", "Programs, links and maps in the kernel",
          [&] { return show(options, "/v1/modules", render_modules, out); });
  auto* monitor_command = command("monitor", "Drops and verdicts as they happen (both, unless one is named)",
                                  [&] { return monitor(options, out); });
  monitor_command->add_flag("--drops", options.drops, "Dropped packets");
  monitor_command->add_flag("--verdicts", options.verdicts, "The firewall's verdicts");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, out, err) == 0 ? kDone : kFailed;
  }
  if (done) return kDone;
  err << "sluicectl: " << done.error().message << "\n";
  return done.error().code == kUnreachable ? kNoDaemon : kFailed;
}

}  // namespace sluice::cli
