// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
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
  std::string service;
  std::string protocol;
  std::size_t limit = 1000;
  bool all = false;
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

std::string check_service(const std::string& text) {
  const auto slash = text.find('/');
  const bool good = slash != std::string::npos && slash > 0 && slash + 1 < text.size();
  return good ? "" : "'" + text + "' is no namespace/service";
}

std::string check_protocol(const std::string& text) {
  const bool good =
      !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c); });
  return good ? "" : "'" + text + "' is no protocol";
}

std::string conntrack_path(const Options& options) {
  std::string path = "/v1/conntrack?";
  if (!options.endpoint.empty()) path += "of=" + options.endpoint + "&";
  if (!options.protocol.empty()) path += "protocol=" + options.protocol + "&";
  return path;
}

using Render = std::function<std::string(const json&)>;

Result<void> print(const Options& options, const Result<json>& answer, const Render& render,
                   std::ostream& out) {
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

Result<void> show(const Options& options, const std::string& path, const Render& render, std::ostream& out) {
  return print(options, Client(options.socket).get(path), render, out);
}

Result<void> show_service(const Options& options, std::ostream& out) {
  auto answer = Client(options.socket).get("/v1/services");
  if (!answer) return tl::unexpected(answer.error());
  auto found = json::array();
  for (auto& each : answer->value("services", json::array())) {
    const auto name = each.value("service", "");
    if (name == options.service || name.starts_with(options.service + ":")) found.push_back(std::move(each));
  }
  if (found.empty())
    return failure(
        "this node serves no '{}'; `sluicectl service list` lists all (headless and external Services, and "
        "those of another service proxy, are none of Sluice's)",
        options.service);
  (*answer)["services"] = std::move(found);
  return print(options, answer, render_service, out);
}

Result<void> flush(const Options& options, std::ostream& out) {
  if (options.endpoint.empty() && options.protocol.empty() && !options.all)
    return failure("say whose connections are to be forgotten, or a --protocol, or --all");
  const auto path = conntrack_path(options) + (options.all ? "all=1" : "");
  return print(options, Client(options.socket).remove(path), render_flushed, out);
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
  const auto command = [&](const char* name, const char* help, auto action, CLI::App* of = nullptr) {
    auto* sub = (of != nullptr ? of : &app)->add_subcommand(name, help);
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
  auto* service = app.add_subcommand("service", "Services, as they are in force on this node");
  service->require_subcommand(1)->fallthrough();
  command(
      "list", "The addresses of Services, and who serves them from this node",
      [&] { return show(options, "/v1/services", render_services, out); }, service);
  command(
      "get", "One Service: each of its addresses, by whom it is served, and by which rules",
      [&] { return show_service(options, out); }, service)
      ->add_option("service", options.service, "namespace/name, or namespace/name:port")
      ->required()
      ->check(check_service);
  auto* conntrack = app.add_subcommand("conntrack", "Connections that this node knows");
  conntrack->require_subcommand(1)->fallthrough();
  auto* conntrack_list = command(
      "list", "Connections: who opened them to whom, and how long they have been idle",
      [&] {
        return show(options, conntrack_path(options) + "limit=" + std::to_string(options.limit),
                    render_connections, out);
      },
      conntrack);
  conntrack_list->add_option("--limit", options.limit, "How many are shown at most")
      ->check(CLI::Range(std::size_t{1}, std::size_t{100000}))
      ->capture_default_str();
  auto* conntrack_flush = command(
      "flush",
      "Forgets connections: the next packet of each, of whichever side, is judged as one that opens a "
      "connection",
      [&] { return flush(options, out); }, conntrack);
  conntrack_flush->add_flag("--all", options.all, "All that this node knows");
  for (auto* sub : {conntrack_list, conntrack_flush}) {
    sub->add_option("of", options.endpoint,
                    "Endpoint id, namespace/pod or address, of either end or a Service")
        ->check(check_endpoint);
    sub->add_option("--protocol", options.protocol, "TCP, UDP, SCTP, ICMP or a number")
        ->check(check_protocol);
  }
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
