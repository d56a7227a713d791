// SPDX-License-Identifier: Apache-2.0
#include "daemon/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cstdlib>
#include <map>

namespace sluice {

namespace {

constexpr std::uint16_t kFirstUserPort = 1024;
constexpr std::uint16_t kKubeletPort = 10250;

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "localhost";
}

// Throws what CLI11 throws.
void read_masquerade(DaemonOptions& o) {
  o.controller.masquerade = o.masquerade == "on";
  for (const auto& text : o.non_masquerade) {
    auto range = Prefix::parse(text);
    if (!range || !range->is_v4())
      throw CLI::ValidationError("--non-masquerade-cidrs",
                                 "'" + text + "' is not an IPv4 CIDR like 10.0.0.0/8");
    o.controller.non_masquerade.push_back(*range);
  }
  if (o.masquerade_ports.empty()) return;
  auto& first = o.datapath.snat_port_min;
  auto& last = o.datapath.snat_port_max;
  const char* const end = o.masquerade_ports.data() + o.masquerade_ports.size();
  auto read = std::from_chars(o.masquerade_ports.data(), end, first);
  const bool dash = read.ec == std::errc{} && read.ptr != end && *read.ptr == '-';
  if (dash) read = std::from_chars(read.ptr + 1, end, last);
  if (!dash || read.ec != std::errc{} || read.ptr != end || first < kFirstUserPort || first > last)
    throw CLI::ValidationError("--masquerade-ports", "'" + o.masquerade_ports +
                                                         "' is not like 61000-65535, from " +
                                                         std::to_string(kFirstUserPort) + " on");
  // A tunnel packet from a masquerade port is taken for a forged one.
  if (first <= SLUICE_TUNNEL_PORT_MAX && last >= SLUICE_TUNNEL_PORT_MIN)
    throw CLI::ValidationError(
        "--masquerade-ports",
        fmt::format(
            "'{}' overlaps with {}-{}, by which nodes send tunnel packets: choose ports below or above",
            o.masquerade_ports, SLUICE_TUNNEL_PORT_MIN, SLUICE_TUNNEL_PORT_MAX));
}

// What the node itself needs, on each of its addresses.
std::vector<service::ReservedPorts> reserved_ports(const DaemonOptions& o) {
  using model::Protocol;
  std::vector<service::ReservedPorts> ports{
      {Protocol::kUdp, o.datapath.vxlan_port, o.datapath.vxlan_port, "the tunnel (--vxlan-port)"},
      {Protocol::kTcp, kKubeletPort, kKubeletPort, "kubelet"},
      {std::nullopt, o.datapath.snat_port_min, o.datapath.snat_port_max,
       "masqueraded connections (--masquerade-ports)"}};
  const auto& health = o.server.health_address;
  std::uint16_t port = 0;
  if (const auto colon = health.rfind(':'); colon != std::string::npos)
    std::from_chars(health.data() + colon + 1, health.data() + health.size(), port);
  if (port != 0) ports.push_back({Protocol::kTcp, port, port, "sluiced (--health-address)"});
  return ports;
}

}  // namespace

DaemonOptions parse_options(int argc, char** argv) {
  DaemonOptions o;
  auto& c = o.controller;
  CLI::App app{"sluiced: the node daemon of Sluice"};
  app.set_version_flag("--version", SLUICE_VERSION);
  app.add_flag(
      "--remove", o.remove,
      "take away all that Sluice made on this node, by whichever version, and end: attachments, pods' "
      "links (pods lose their network), devices, routes, rules, pins, records. Needs no daemon and "
      "refuses where one runs. Of the other options only --bpffs, --run-dir, --state-dir, "
      "--cni-conf-dir, --cni-bin-dir and --log-level matter");
  app.add_option(
      "--remove-from-cluster", o.remove_from_cluster,
      "NAMESPACE/NAME: delete that DaemonSet of daemons, wait until each pod of the DaemonSet NAME-removal "
      "is Ready, which is when its node is rid of Sluice, and end. For the chart's hook of `helm uninstall`. "
      "Of the other options only --kubeconfig, --api-server, --removal-time-limit and --log-level matter");
  app.add_option("--removal-time-limit", o.removal_time_limit_s,
                 "seconds that --remove-from-cluster may take")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  app.add_option("--source", o.source,
                 "where objects come from: the Kubernetes API or a folder of YAML files")
      ->check(CLI::IsMember({"kube", "yaml"}))
      ->capture_default_str();
  app.add_option("--yaml-folder", o.yaml_folder, "folder for --source yaml; watched for changes");
  app.add_option("--kubeconfig", o.kubeconfig, "for --source kube; default: the pod's service account");
  app.add_option("--api-server", o.api_server,
                 "host:port of the API server instead of the in-cluster address");
  app.add_option("--node-name", c.node_name,
                 "name of this node's Node object; default: $NODE_NAME, host name");
  app.add_option("--uplink", c.uplink,
                 "interface to the other nodes; default: the one with the node's InternalIP, or, if lo has "
                 "it, those that routes by gateways lead out by");
  app.add_option("--mtu", c.mtu, "MTU of pods; 0: the uplink's less the tunnel's 50 bytes")
      ->check(CLI::Range(0, 65535));
  app.add_option("--bpffs", o.datapath.bpffs, "mounted bpffs that keeps programs and maps")
      ->capture_default_str();
  app.add_option("--run-dir", o.run_dir, "socket and attachments; must not survive a boot")
      ->capture_default_str();
  app.add_option("--state-dir", c.state_dir, "queued deletions")->capture_default_str();
  app.add_option("--health-address", o.server.health_address,
                 "host:port of /healthz, /readyz, /metrics; empty: none");
  app.add_option("--metrics-address", o.server.metrics_address,
                 "host:port where other hosts may ask for /metrics, and for nothing else; empty: none");
  app.add_option(
      "--cni-conflist", o.install.conflist,
      "list of CNI plugins to put into --cni-conf-dir once pods can be attached, and to keep there; "
      "empty: somebody else does");
  app.add_option("--cni-plugin", o.install.plugin,
                 "the CNI binary, to be put into --cni-bin-dir before the list")
      ->capture_default_str();
  app.add_option("--cni-conf-dir", o.install.net_dir,
                 "folder where the runtime finds lists of plugins; with --remove: empty it of Sluice's");
  app.add_option("--cni-bin-dir", o.install.bin_dir, "folder where the runtime finds plugins; the same");
  app.add_option("--cni-exclusive", o.cni_exclusive,
                 "on: other plugins' configurations are put aside until Sluice is removed; off: they stay, "
                 "and the daemon is not ready while one stands before Sluice's")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option("--vxlan-port", o.datapath.vxlan_port, "UDP port of the tunnel")->capture_default_str();
  app.add_option("--vni", o.datapath.vni, "VXLAN network identifier")
      ->check(CLI::Range(1, 0xffffff))
      ->capture_default_str();
  app.add_option("--tunnel-direct", o.tunnel_direct,
                 "on: packets to and from other nodes go past the node's stack, but not where that has IPsec "
                 "policies; off: all by the VXLAN device")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option(
         "--conntrack-max", o.datapath.conntrack_max,
         "entries of the conntrack table; 0: by the memory of the machine; takes effect on a new table")
      ->check(CLI::Range(1024, 16777216) | CLI::IsMember({0}))
      ->capture_default_str();
  app.add_option("--cgroup", o.datapath.cgroup,
                 "cgroup v2 with all processes of the node, or a folder with one in 'unified': Services are "
                 "translated there for the node's own processes. 'none', or where there is none: packet "
                 "by packet, and cluster IPs only")
      ->capture_default_str();
  app.add_option("--load-balancer-algorithm", o.algorithm,
                 "how a new connection to a Service gets its backend: maglev, by its addresses and ports and "
                 "alike on every node, or random")
      ->check(CLI::IsMember({"maglev", "random"}))
      ->capture_default_str();
  app.add_option("--masquerade", o.masquerade,
                 "on: pods leave the cluster under the node's address; off: under their own, which routers "
                 "outside must know")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option("--masquerade-annotation", o.masquerade_annotation,
                 "on: a pod's annotation sluice.dev/masquerade (true, false) goes before --masquerade, so "
                 "whoever may make pods decides; off: it is ignored")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option(
         "--external-ips", o.external_ips,
         "on: Services are served on their spec.externalIPs, unless an address is a node's, a pod's or "
         "the API server's; off: on none")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option("--non-masquerade-cidrs", o.non_masquerade,
                 "destinations outside of the cluster to which pods always keep their address")
      ->delimiter(',');
  app.add_option("--masquerade-ports", o.masquerade_ports,
                 "first-last: ports of the node's address that masqueraded connections go by; outside of "
                 "net.ipv4.ip_local_port_range and of node ports. Connections by ports that no longer belong "
                 "to it end. Default: 61000-65535");
  app.add_option("--housekeeping-interval", c.housekeeping_s,
                 "seconds between looks for rules, connections and pods that are no more")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  app.add_option(
         "--attach", o.attach,
         "how programs are attached: tcx (Linux 6.6), clsact, or auto: by tcx where the kernel has "
         "it, but to pods' links by clsact first, which is quicker; they are moved to tcx when no pod "
         "came or went for a while. Else what is attached stays as it is")
      ->check(CLI::IsMember({"auto", "tcx", "clsact"}))
      ->capture_default_str();
  app.add_option("--log-level", o.log_level)
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
    if (!o.remove && o.source == "yaml" && o.yaml_folder.empty())
      throw CLI::RequiredError("--yaml-folder (with --source yaml)");
    const auto slash = o.remove_from_cluster.find('/');
    if (!o.remove_from_cluster.empty() &&
        (slash == 0 || slash == std::string::npos || slash + 1 == o.remove_from_cluster.size()))
      throw CLI::ValidationError("--remove-from-cluster", "is not like kube-system/sluice");
    if (!o.install.conflist.empty() && (o.install.net_dir.empty() || o.install.bin_dir.empty()))
      throw CLI::RequiredError("--cni-conf-dir and --cni-bin-dir (with --cni-conflist)");
    read_masquerade(o);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  if (c.node_name.empty()) {
    const char* name = std::getenv("NODE_NAME");
    c.node_name = name != nullptr ? name : host_name();
  }
  using Mode = datapath::AttachMode;
  o.datapath.attach = o.attach == "tcx" ? Mode::kTcx : o.attach == "clsact" ? Mode::kClsact : Mode::kAuto;
  using datapath::Algorithm;
  o.datapath.tunnel_direct = o.tunnel_direct == "on";
  o.datapath.algorithm = o.algorithm == "random" ? Algorithm::kRandom : Algorithm::kMaglev;
  if (o.datapath.cgroup == "none") o.datapath.cgroup.clear();
  c.masquerade_annotation = o.masquerade_annotation == "on";
  o.install.exclusive = o.cni_exclusive == "on";
  c.external_ips = o.external_ips == "on";
  c.reserved_ports = reserved_ports(o);
  o.server.socket = o.run_dir + "/sluice.sock";
  return o;
}

}  // namespace sluice
