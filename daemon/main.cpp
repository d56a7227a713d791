// SPDX-License-Identifier: Apache-2.0
// sluiced: wires the stages and runs until SIGTERM or SIGINT. Nothing it does on the way out touches the
// datapath: to take that away is for sluiced --remove.
#include <malloc.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <cstring>

#include "common/guard.h"
#include "daemon/install/files.h"
#include "daemon/install/watch.h"
#include "daemon/options.h"
#include "daemon/removal/cluster.h"
#include "daemon/removal/removal.h"
#include "daemon/source/kube/kube_source.h"
#include "daemon/source/yaml/yaml_source.h"

namespace {

using sluice::Result;

struct SourceAndLookup {
  std::unique_ptr<sluice::source::Source> source;
  sluice::controller::PodLookup lookup;
  std::string api_host;  // empty: there is no API server
  std::uint16_t api_port = 0;
};

Result<sluice::source::KubeConfig> kube_config(const sluice::DaemonOptions& options) {
  return options.kubeconfig.empty() ? sluice::source::KubeConfig::in_cluster(options.api_server)
                                    : sluice::source::KubeConfig::from_file(options.kubeconfig);
}

Result<SourceAndLookup> make_source(const sluice::DaemonOptions& options) {
  if (options.source == "yaml") {
    auto source = sluice::source::YamlSource::make({options.yaml_folder});
    if (!source) return tl::unexpected(source.error());
    return SourceAndLookup{std::move(*source), nullptr, {}};
  }
  auto config = kube_config(options);
  if (!config) return tl::unexpected(config.error());
  const auto host = config->host;
  const auto port = config->port;
  auto source = sluice::source::KubeSource::make(std::move(*config));
  if (!source) return tl::unexpected(source.error());
  auto* kube = source->get();
  const auto lookup = [kube](const std::string& ns, const std::string& name) {
    return kube->get_pod(ns, name);
  };
  return SourceAndLookup{std::move(*source), lookup, host, port};
}

// What the runtime reads on the node, from the moment on when it may call.
std::unique_ptr<sluice::install::FolderWatch> keep_files(const sluice::install::Options& options,
                                                         sluice::controller::Controller& controller) {
  if (options.conflist.empty()) return nullptr;
  auto files = std::make_shared<sluice::install::NodeFiles>(options);
  controller.also_put_back([files](bool configured, sluice::datapath::Datapath::PutBack& result) {
    if (!configured) return;
    auto [found, problem] = files->put_back();
    result.found.insert(result.found.end(), found.begin(), found.end());
    if (!problem.empty()) result.problem += (result.problem.empty() ? "" : "; ") + problem;
  });
  auto watch = sluice::install::FolderWatch::start({options.net_dir, options.bin_dir},
                                                   [&controller] { controller.look_at_node_soon(); });
  if (watch) return std::move(*watch);
  spdlog::warn("{}; changes there are seen some seconds later", watch.error().message);
  return nullptr;
}

Result<void> run(const sluice::DaemonOptions& options, const sigset_t& signals) {
  auto datapath = sluice::datapath::Datapath::open(options.datapath);
  if (!datapath) return tl::unexpected(datapath.error());
  auto ipam = sluice::ipam::Ipam::open(options.run_dir + "/attachments");
  if (!ipam) return tl::unexpected(ipam.error());
  auto source = make_source(options);
  if (!source) return tl::unexpected(source.error());
  auto settings = options.controller;
  if (!source->api_host.empty())
    sluice::service::protect_api_server(source->api_host, source->api_port, settings.api_servers,
                                        settings.reserved_ports);
  auto controller =
      sluice::controller::Controller::make(std::move(settings), std::move(*ipam), std::move(*datapath));
  if (!controller) return tl::unexpected(controller.error());
  (*controller)->start(*source->source, source->lookup);
  auto server = sluice::server::Server::start(options.server, **controller);
  if (!server) return tl::unexpected(server.error());
  const sluice::Guard stop([&] { (*controller)->stop(); });  // it uses the server
  (*controller)->also_put_back([&](bool, sluice::datapath::Datapath::PutBack& result) {
    const auto made = (*server)->put_back();
    if (!made) result.problem += (result.problem.empty() ? "" : "; ") + made.error().message;
    if (made && *made) result.found.push_back("the socket " + options.server.socket + " is missing");
  });
  const auto files = keep_files(options.install, **controller);
  if (auto started = source->source->start(**controller); !started) return tl::unexpected(started.error());

  int signal = 0;
  sigwait(&signals, &signal);
  spdlog::info("{}: leaving; programs, links and maps stay", strsignal(signal));
  source->source->stop();
  return {};
}

Result<void> remove_from_cluster(const sluice::DaemonOptions& options) {
  const auto config = kube_config(options);
  if (!config) return tl::unexpected(config.error());
  const auto slash = options.remove_from_cluster.find('/');
  const auto name = options.remove_from_cluster.substr(slash + 1);
  sluice::removal::ClusterPlan plan{options.remove_from_cluster.substr(0, slash), name, name + "-removal"};
  plan.time_limit = std::chrono::seconds(options.removal_time_limit_s);
  return sluice::removal::remove_from_cluster(*config, plan);
}

int end_with(const Result<void>& done) {
  if (done) return 0;
  spdlog::critical("{}", done.error().message);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = sluice::parse_options(argc, argv);
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  if (options.remove)
    return end_with(
        sluice::removal::remove_all({options.datapath.bpffs, options.run_dir, options.controller.state_dir,
                                     options.install.bin_dir, options.install.net_dir}));
  signal(SIGPIPE, SIG_IGN);
  if (!options.remove_from_cluster.empty()) return end_with(remove_from_cluster(options));
  // Objects are read by a thread for each kind and kept by the controller's: with an arena for each thread
  // what was freed in one is of no use in another. Of 100,000 pods and 10,000 policies it takes 143 instead
  // of 175 MB.
  mallopt(M_ARENA_MAX, 1);
  // Blocked before any thread starts, so that only sigwait() sees them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  return end_with(run(options, signals));
}
