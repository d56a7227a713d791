// SPDX-License-Identifier: Apache-2.0
// Short words for Services, EndpointSlices and what is compiled from them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/service/compiler.h"

namespace sluice::service::words {

using model::Protocol;

inline Address ip(const std::string& text) { return *Address::parse(text); }

inline std::vector<Address> ips(const std::vector<std::string>& texts) {
  std::vector<Address> addresses;
  for (const auto& text : texts) addresses.push_back(ip(text));
  return addresses;
}

inline Frontend tcp(const std::string& address, std::uint16_t port) {
  return {ip(address), Protocol::kTcp, port};
}

// shop/web at 10.96.0.1, port 80 "http".
inline model::Service web() {
  model::Service service;
  service.ns = "shop";
  service.name = "web";
  service.cluster_ips = ips({"10.96.0.1"});
  service.ports = {{"http", Protocol::kTcp, 80, 0}};
  return service;
}

inline model::Endpoint on(const std::string& node, const std::string& address) {
  model::Endpoint endpoint;
  endpoint.addresses = ips({address});
  endpoint.node_name = node;
  return endpoint;
}

inline model::Endpoint not_ready(model::Endpoint endpoint) {
  endpoint.ready = endpoint.serving = false;
  return endpoint;
}

inline model::Endpoint terminating(model::Endpoint endpoint, bool serving = true) {
  endpoint.ready = false;
  endpoint.serving = serving;
  endpoint.terminating = true;
  return endpoint;
}

inline model::Endpoint hinted(model::Endpoint endpoint, std::vector<std::string> zones,
                              std::vector<std::string> nodes = {}) {
  endpoint.hint_zones = std::move(zones);
  endpoint.hint_nodes = std::move(nodes);
  return endpoint;
}

// With port 8080 "http".
inline model::EndpointSlice slice(std::vector<model::Endpoint> endpoints) {
  return {"shop", "web-1", "web", std::move(endpoints), {{"http", Protocol::kTcp, 8080}}};
}

inline Input input(const model::Service& service, const std::vector<model::EndpointSlice>& slices) {
  Input result{std::make_shared<const model::Service>(service), {}};
  for (const auto& each : slices) result.slices.push_back(std::make_shared<const model::EndpointSlice>(each));
  return result;
}

// "10.0.1.1:8080 10.0.2.1:8080"; "" of nobody.
inline std::string text(const Pool& pool) {
  std::string words;
  for (const auto& backend : pool.backends)
    words += (words.empty() ? "" : " ") + backend.address.to_string() + ":" + std::to_string(backend.port);
  return words;
}

}  // namespace sluice::service::words
