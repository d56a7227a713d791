// SPDX-License-Identifier: Apache-2.0
// The command line of sluiced.
#pragma once

#include <string>
#include <vector>

#include "common/paths.h"
#include "daemon/controller/controller.h"
#include "daemon/datapath/datapath.h"
#include "daemon/install/files.h"
#include "daemon/server/server.h"

namespace sluice {

struct DaemonOptions {
  bool remove = false;          // take away what Sluice made on the node, and leave
  std::string remove_from_cluster;  // "namespace/name" of the DaemonSet; empty: no such task
  unsigned removal_time_limit_s = 240;
  std::string source = "kube";  // kube | yaml
  std::string yaml_folder;
  std::string kubeconfig;
  std::string api_server;
  std::string run_dir = kDefaultRunDir;
  std::string log_level = "info";
  std::string attach = "auto";                // auto | tcx | clsact
  std::string algorithm = "maglev";           // maglev | random
  std::string tunnel_direct = "on";           // on | off
  std::string masquerade = "on";              // on | off
  std::string masquerade_annotation = "off";  // on | off
  std::string external_ips = "on";            // on | off
  std::string cni_exclusive = "on";           // on | off
  std::string masquerade_ports;               // "61000-65535"; empty: these
  std::vector<std::string> non_masquerade;
  controller::Options controller;
  datapath::Options datapath;
  install::Options install;
  server::ServerOptions server;
};

// Parses; on --help, --version or an error prints and exits.
DaemonOptions parse_options(int argc, char** argv);

}  // namespace sluice
