// SPDX-License-Identifier: Apache-2.0
// The node's own place in the network: from its Node object, the others', and the interfaces that are here.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "common/netlink.h"
#include "daemon/controller/controller.h"
#include "daemon/controller/node_addresses.h"
#include "daemon/controller/path_filters.h"
#include "daemon/controller/uplinks.h"

namespace sluice::controller {

using namespace std::chrono_literals;

namespace {

// VXLAN over IPv4: outer Ethernet header counts not (the uplink's MTU is of its payload): 20 + 8 + 8 + 14.
constexpr unsigned kTunnelOverhead = 50;
constexpr unsigned kMtuWithoutUplink = 1500;

// Every other address is the node's whatever its scope: NodeLocal DNSCache and agents of clouds have some of
// 169.254.0.0/16.
bool is_loopback(const Address& address) { return address.is_v4() && address.bytes()[12] == 127; }

std::string names_of(const std::vector<datapath::NodeConfig::Uplink>& uplinks) {
  if (uplinks.empty()) return "none";
  std::string text;
  for (const auto& uplink : uplinks)
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", uplink.name, uplink.source.to_string());
  return text;
}

}  // namespace

void Controller::reconcile_node() {
  node_dirty_ = false;
  const auto own = state_.nodes().find(options_.node_name);
  if (own == state_.nodes().end()) return;

  auto retry = [this](const std::string& what) {
    if (node_problem_ != what) spdlog::error("node not configured: {}; tried again every second", what);
    node_problem_ = what;
    node_dirty_ = true;
    node_retry_at_ = Clock::now() + 1s;
  };
  auto netlink = NetlinkSocket::make();
  if (!netlink) return retry(netlink.error().message);
  auto links = netlink->links();
  auto addresses = netlink->addresses();
  auto routes = netlink->routes();
  if (!links || !addresses) return retry((links ? addresses.error() : links.error()).message);
  if (!routes) return retry(routes.error().message);

  datapath::NodeConfig config;
  config.pod_cidrs = own->second.pod_cidrs;
  for (const auto& address : own->second.addresses) {
    config.node_addresses.push_back(address);
    if (address.is_v4() && !config.node_ipv4) config.node_ipv4 = address;
  }
  for (const auto& here : *addresses) {
    const auto owner = std::ranges::find(*links, here.index, &Link::index);
    // The gateway's address comes and goes with the podCIDR; the datapath knows it.
    if (is_loopback(here.address) || (owner != links->end() && owner->name.starts_with("sluice_"))) continue;
    if (std::find(config.node_addresses.begin(), config.node_addresses.end(), here.address) ==
            config.node_addresses.end() &&
        here.address.is_v4())
      config.node_addresses.push_back(here.address);
  }
  std::sort(config.node_addresses.begin(), config.node_addresses.end());
  find_former_pods(config);

  if (!options_.uplink.empty() && std::ranges::find(*links, options_.uplink, &Link::name) == links->end())
    return retry("uplink " + options_.uplink + " does not exist (--uplink, chart value `uplink`)");
  auto uplinks = find_uplinks(config.node_ipv4, options_.uplink, {*links, *addresses, *routes});
  if (const auto problem = why_unusable(config.pod_cidrs, uplinks.underlay, *links, *addresses);
      !problem.empty())
    return retry(problem);
  if (uplinks.underlay.empty() && config.node_ipv4 && !told_no_interface_) {
    spdlog::warn(
        "no interface of this node leads to other nodes, by its InternalIP {} or by a route: pods reach no "
        "other node, "
        "until one does or --uplink (chart value `uplink`) names one",
        config.node_ipv4->to_string());
    told_no_interface_ = true;
  }
  if (uplinks.all.empty()) config.node_ipv4.reset();
  if (!uplinks.underlay.empty()) told_no_interface_ = false;
  config.uplinks = std::move(uplinks.all);
  if (auto strict = strict_filters(config.uplinks, path_filter);
      std::exchange(strict_filters_told_, strict) != strict && !strict.empty())
    spdlog::warn("{}", strict);
  config.pod_mtu = options_.mtu != 0               ? options_.mtu
                   : uplinks.mtu == 0              ? kMtuWithoutUplink
                   : uplinks.mtu > kTunnelOverhead ? uplinks.mtu - kTunnelOverhead
                                                   : uplinks.mtu;
  forget_ranges();
  using Remotes = std::vector<datapath::NodeConfig::Remote>;
  auto others =
      other_nodes(state_.nodes(), options_.node_name, config.node_addresses, state_.service_ranges(),
                  node_config_ ? node_config_->remotes : Remotes{}, *ranges_of_nodes_, config.former_pods);
  config.remotes = std::move(others.remotes);
  for (const auto& refused : others.refused)
    if (std::ranges::find(node_addresses_refused_, refused) == node_addresses_refused_.end())
      spdlog::warn("{}", refused);
  node_addresses_refused_ = std::move(others.refused);
  for (const auto& remote : config.remotes)
    (*ranges_of_nodes_)[remote.name].insert(remote.pod_cidrs.begin(), remote.pod_cidrs.end());

  config.non_masquerade = options_.non_masquerade;

  if (node_config_ == config || config.pod_cidrs.empty()) node_problem_.clear();
  if (node_config_ == config) return;
  if (config.pod_cidrs.empty()) {
    spdlog::warn(
        "Node {} has no podCIDR yet: pods cannot be attached. With kube-controller-manager: "
        "--allocate-node-cidrs",
        options_.node_name);
    node_config_ = config;
    node_view_dirty_ = true;
    return;
  }
  if (auto done = datapath_->configure(config); !done) return retry(done.error().message);
  node_problem_.clear();
  record_pod_cidrs(config.pod_cidrs);
  ipam_.set_pod_cidrs(config.pod_cidrs);
  state_.set_pod_cidrs(config.pod_cidrs);
  for (auto& reason : state_.take_changes()) reasons_.push_back(std::move(reason));
  if (!reasons_.empty()) policy_dirty_ = true;
  spdlog::info("node {} configured: podCIDR {}, uplinks {}, pod MTU {}, {} other nodes", options_.node_name,
               config.pod_cidrs.front().to_string(), names_of(config.uplinks), config.pod_mtu,
               config.remotes.size());
  node_config_ = std::move(config);
  node_view_dirty_ = true;
}

}  // namespace sluice::controller
