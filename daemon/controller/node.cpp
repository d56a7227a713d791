// SPDX-License-Identifier: Apache-2.0
// The node's own place in the network: from its Node object, the others', and the interfaces that are here.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/netlink.h"
#include "daemon/controller/controller.h"
#include "daemon/controller/node_addresses.h"

namespace sluice::controller {

using namespace std::chrono_literals;

namespace {

// VXLAN over IPv4: outer Ethernet header counts not (the uplink's MTU is of its payload): 20 + 8 + 8 + 14.
constexpr unsigned kTunnelOverhead = 50;
constexpr unsigned kMtuWithoutUplink = 1500;

// Every other address is the node's whatever its scope: NodeLocal DNSCache and agents of clouds have some of
// 169.254.0.0/16.
bool is_loopback(const Address& address) { return address.is_v4() && address.bytes()[12] == 127; }

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
  if (!links || !addresses) return retry((links ? addresses.error() : links.error()).message);

  datapath::NodeConfig config;
  config.pod_cidrs = own->second.pod_cidrs;
  for (const auto& address : own->second.addresses) {
    config.node_addresses.push_back(address);
    if (address.is_v4() && !config.node_ipv4) config.node_ipv4 = address;
  }
  config.uplink = options_.uplink;
  const auto link_of = [&](const auto& matches) {
    return std::find_if(links->begin(), links->end(), matches);
  };
  for (const auto& here : *addresses) {
    const auto owner = link_of([&](const Link& l) { return l.index == here.index; });
    // The gateway's address comes and goes with the podCIDR; the datapath knows it.
    if (is_loopback(here.address) || (owner != links->end() && owner->name.starts_with("sluice_")))
      continue;
    if (std::find(config.node_addresses.begin(), config.node_addresses.end(), here.address) ==
            config.node_addresses.end() &&
        here.address.is_v4())
      config.node_addresses.push_back(here.address);
    if (config.uplink.empty() && config.node_ipv4 == here.address && owner != links->end() &&
        owner->name != "lo")
      config.uplink = owner->name;
  }
  std::sort(config.node_addresses.begin(), config.node_addresses.end());

  const auto uplink = link_of([&](const Link& l) { return l.name == config.uplink; });
  if (!config.uplink.empty() && uplink == links->end())
    return retry("uplink " + config.uplink + " does not exist (--uplink, chart value `uplink`)");
  if (const auto problem = why_unusable(config, *links, *addresses); !problem.empty()) return retry(problem);
  if (config.uplink.empty() && config.node_ipv4 && !told_no_interface_) {
    spdlog::warn(
        "no interface of this node has its InternalIP {}: pods reach no other node and nothing outside, "
        "until one has it or --uplink (chart value `uplink`) names one",
        config.node_ipv4->to_string());
    told_no_interface_ = true;
  }
  if (config.uplink.empty())
    config.node_ipv4.reset();
  else
    told_no_interface_ = false;
  config.pod_mtu = options_.mtu != 0               ? options_.mtu
                   : uplink == links->end()        ? kMtuWithoutUplink
                   : uplink->mtu > kTunnelOverhead ? uplink->mtu - kTunnelOverhead
                                                   : uplink->mtu;
  using Remotes = std::vector<datapath::NodeConfig::Remote>;
  auto others = other_nodes(state_.nodes(), options_.node_name, config.node_addresses,
                            state_.service_ranges(), node_config_ ? node_config_->remotes : Remotes{});
  config.remotes = std::move(others.remotes);
  for (const auto& refused : others.refused)
    if (std::ranges::find(node_addresses_refused_, refused) == node_addresses_refused_.end())
      spdlog::warn("{}", refused);
  node_addresses_refused_ = std::move(others.refused);

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
  ipam_.set_pod_cidrs(config.pod_cidrs);
  state_.set_pod_cidrs(config.pod_cidrs);
  for (auto& reason : state_.take_changes()) reasons_.push_back(std::move(reason));
  if (!reasons_.empty()) policy_dirty_ = true;
  spdlog::info("node {} configured: podCIDR {}, uplink {}, pod MTU {}, {} other nodes", options_.node_name,
               config.pod_cidrs.front().to_string(), config.uplink.empty() ? "none" : config.uplink,
               config.pod_mtu, config.remotes.size());
  node_config_ = std::move(config);
  node_view_dirty_ = true;
}

}  // namespace sluice::controller
