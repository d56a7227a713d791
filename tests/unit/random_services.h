// SPDX-License-Identifier: Apache-2.0
// Random Services and EndpointSlices as one node sees them, and changes to them. The universe is small, so
// that Services meet at frontends and endpoints are in two slices; the same seed gives the same sequence.
#pragma once

#include <array>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "tests/unit/service_words.h"

namespace sluice::service {

using Inputs = std::map<std::string, Input>;  // by "namespace/name"

class RandomServices {
  template <typename Container>
  [[nodiscard]] auto& any(Container& container) {
    return *std::next(container.begin(), below(static_cast<int>(container.size())));
  }

 public:
  explicit RandomServices(std::uint64_t seed) : random_(seed) {
    move_node();
    for (int i = 0; i < 8; ++i) change_one();
  }

  [[nodiscard]] const Inputs& inputs() const { return inputs_; }
  [[nodiscard]] const NodeView& node() const { return node_; }

  // The key of the Service that changed; "" if the node did.
  std::string change_one() {
    if (below(12) == 0) {
      move_node();
      return {};
    }
    const std::string key = std::string(any(kKeys));
    Input& input = inputs_[key];
    const int kind = below(10);
    if (kind < 3 || !input.service) {
      input.service = std::make_shared<const model::Service>(random_service(key));
    } else if (kind == 3) {
      input.service.reset();
    } else if (kind == 4 && !input.slices.empty()) {
      input.slices.erase(input.slices.begin() + below(static_cast<int>(input.slices.size())));
    } else if (kind == 5 && input.slices.size() < 3) {
      input.slices.push_back(random_slice());
    } else if (!input.slices.empty()) {
      change_endpoint(any(input.slices));
    }
    return key;
  }

  [[nodiscard]] int below(int bound) {
    return static_cast<int>(random_() % static_cast<std::uint64_t>(bound));
  }

 private:
  static constexpr std::array<std::string_view, 7> kKeys{"a/web", "a/web-2", "a/x", "b/db",
                                                         "b/web", "c/a",     "c/b"};

  [[nodiscard]] bool one_in(int count) { return below(count) == 0; }

  [[nodiscard]] Address address(std::uint32_t v4_net, const char* v6_net, int count) {
    if (!one_in(3)) return Address::from_v4(v4_net + static_cast<std::uint32_t>(below(count)));
    Address address = words::ip(v6_net);
    address.bytes()[15] = static_cast<std::uint8_t>(below(count));
    return address;
  }
  [[nodiscard]] std::vector<Address> addresses(std::uint32_t v4_net, const char* v6_net, int most) {
    std::vector<Address> result;
    for (int i = below(most + 1); i > 0; --i) result.push_back(address(v4_net, v6_net, 4));
    return result;
  }
  [[nodiscard]] model::Protocol protocol() {
    return one_in(3) ? model::Protocol::kUdp : model::Protocol::kTcp;
  }
  [[nodiscard]] std::string port_name() {
    static constexpr std::array<const char*, 3> kNames{"", "http", "dns"};
    return any(kNames);
  }
  [[nodiscard]] std::string node_name() {
    static constexpr std::array<const char*, 4> kNames{"", "one", "two", "three"};
    return any(kNames);
  }

  void move_node() {
    static constexpr std::array<const char*, 3> kZones{"", "east", "west"};
    if (one_in(3)) node_.name = node_name();
    if (one_in(3)) node_.zone = any(kZones);
    // A node address may be somebody's external IP too.
    node_.addresses = addresses(0xc6336400, "2001:db8::", 3);
  }

  [[nodiscard]] model::Service random_service(const std::string& key) {
    model::Service service;
    service.ns = key.substr(0, 1);
    service.name = key.substr(2);
    if (!one_in(8)) service.cluster_ips = addresses(0x0a600000, "fd00:96::", 3);
    for (int i = 1 + below(2); i > 0; --i) {
      static constexpr std::array<std::uint16_t, 3> kPorts{53, 80, 30080};
      service.ports.push_back({port_name(), protocol(), any(kPorts), {}});
      if (one_in(2)) service.ports.back().node_port = static_cast<std::uint16_t>(30080 + below(3));
    }
    if (one_in(3)) service.external_ips = addresses(0xc6336400, "2001:db8::", 3);
    // Now and then somebody's cluster IP.
    if (one_in(10)) service.external_ips.push_back(address(0x0a600000, "fd00:96::", 4));
    if (one_in(3)) service.load_balancer_ips = addresses(0xc6336400, "2001:db8::", 3);
    if (one_in(3)) service.source_ranges.push_back(*Prefix::parse("192.0.2.0/24"));
    if (one_in(3)) service.source_ranges.push_back(*Prefix::parse("2001:db8:9::/48"));
    if (one_in(4)) service.affinity_seconds = 60;
    service.internal_local = one_in(3);
    service.external_local = one_in(2);
    service.left_alone = one_in(15);
    return service;
  }

  [[nodiscard]] model::Endpoint random_endpoint(bool hints) {
    model::Endpoint endpoint;
    if (!one_in(20)) endpoint.addresses.push_back(address(0x0a000100, "fd00::", 12));
    if (one_in(20)) endpoint.addresses.push_back(address(0x0a000100, "fd00::", 12));
    endpoint.node_name = node_name();
    const int kind = below(8);
    endpoint.ready = kind < 4;
    endpoint.serving = kind < 7;
    endpoint.terminating = kind == 3 || kind > 4;
    if (hints || one_in(10)) {
      for (const char* zone : {"east", "west"}) {
        if (one_in(2)) endpoint.hint_zones.emplace_back(zone);
      }
      if (endpoint.hint_zones.empty() && !one_in(8)) endpoint.hint_zones.emplace_back("north");
      for (const char* node : {"one", "three", "two"}) {
        if (one_in(4)) endpoint.hint_nodes.emplace_back(node);
      }
      if (endpoint.hint_nodes.empty() && !one_in(6)) endpoint.hint_nodes.emplace_back("zebra");
    }
    return endpoint;
  }

  [[nodiscard]] std::shared_ptr<const model::EndpointSlice> random_slice() {
    model::EndpointSlice slice;
    const bool hints = one_in(2);
    for (int i = below(6); i > 0; --i) slice.endpoints.push_back(random_endpoint(hints));
    for (int i = 1 + below(3); i > 0; --i) {
      slice.ports.push_back({port_name(), protocol(), static_cast<std::uint16_t>(8080 + below(2))});
      if (one_in(10)) slice.ports.back().port = 0;
      if (one_in(10)) slice.ports.back().port.reset();
    }
    return std::make_shared<const model::EndpointSlice>(std::move(slice));
  }

  void change_endpoint(std::shared_ptr<const model::EndpointSlice>& known) {
    model::EndpointSlice slice = *known;
    if (slice.endpoints.empty()) {
      slice.endpoints.push_back(random_endpoint(one_in(2)));
    } else if (one_in(4)) {
      slice.endpoints.pop_back();
    } else {
      auto& endpoint = any(slice.endpoints);
      endpoint = random_endpoint(!endpoint.hint_zones.empty());
    }
    known = std::make_shared<const model::EndpointSlice>(std::move(slice));
  }

  std::mt19937_64 random_;
  Inputs inputs_;
  NodeView node_;
};

}  // namespace sluice::service
