// SPDX-License-Identifier: Apache-2.0
#include "cni/result_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cni/daemon.h"

namespace sluice::cni {

using nlohmann::json;

std::string add_result(Version version, const Environment& environment, const PodNetwork& network,
                       bool with_default_route) {
  const auto gateway = network.gateway.to_string();
  json host = {{"name", network.host_ifname}, {"mac", network.host_mac.to_string()}};
  json pod = {
      {"name", environment.key.ifname}, {"mac", network.mac.to_string()}, {"sandbox", environment.netns}};
  if (version >= Version::k1_1_0) host["mtu"] = pod["mtu"] = network.mtu;
  json ip = {{"address", network.cidr()}, {"gateway", gateway}, {"interface", 1}};
  if (version < Version::k1_0_0) ip["version"] = "4";
  json routes = json::array();
  if (with_default_route) routes.push_back({{"dst", "0.0.0.0/0"}, {"gw", gateway}});
  return dump({{"cniVersion", to_string(version)},
               {"interfaces", json::array({std::move(host), std::move(pod)})},
               {"ips", json::array({std::move(ip)})},
               {"routes", std::move(routes)},
               {"dns", json::object()}});
}

namespace {

// Before 0.3.0: one address a family.
std::string old_result(Version version, const std::vector<LinkAddress>& addresses) {
  json result = {{"cniVersion", to_string(version)}, {"dns", json::object()}};
  for (const auto& each : addresses)
    result.emplace(each.address.is_v4() ? "ip4" : "ip6",
                   json{{"ip", fmt::format("{}/{}", each.address.to_string(), each.length)}});
  return dump(result);
}

}  // namespace

std::string loopback_result(const Config& config, const Environment& environment,
                            const std::vector<LinkAddress>& addresses) {
  if (config.prev_result) return dump(*config.prev_result);
  if (config.version < Version::k0_3_0) return old_result(config.version, addresses);
  json ips = json::array();
  for (const auto& each : addresses) {
    json ip = {{"address", fmt::format("{}/{}", each.address.to_string(), each.length)}, {"interface", 0}};
    if (config.version < Version::k1_0_0) ip["version"] = each.address.is_v4() ? "4" : "6";
    ips.push_back(std::move(ip));
  }
  return dump({{"cniVersion", to_string(config.version)},
               {"interfaces", json::array({{{"name", environment.key.ifname},
                                            {"mac", "00:00:00:00:00:00"},
                                            {"sandbox", environment.netns}}})},
               {"ips", std::move(ips)},
               {"dns", json::object()}});
}

std::string version_result(const std::string& asked, Plugin plugin) {
  return dump({{"cniVersion", asked}, {"supportedVersions", supported_versions(plugin)}});
}

std::string error_result(Version version, const Failure& failure) {
  json error = {{"cniVersion", to_string(version)}, {"code", failure.code}, {"msg", failure.msg}};
  if (!failure.details.empty()) error["details"] = failure.details;
  return dump(error);
}

}  // namespace sluice::cni
