// SPDX-License-Identifier: Apache-2.0
// A compiler for node "here" in zone "west", and Services with every kind of frontend.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "tests/unit/service_words.h"

namespace sluice::service {

inline constexpr const char* kClusterIp = "10.96.0.1";
inline constexpr const char* kNode = "192.0.2.1";
inline constexpr const char* kNodeV6 = "2001:db8::1";
inline constexpr const char* kExternal = "198.51.100.1";
inline constexpr const char* kBalancer = "203.0.113.1";

class ServiceCompiler : public testing::Test {
 protected:
  ServiceCompiler() { compiler.set_node({"here", "west", words::ips({kNode, kNodeV6})}); }

  void update(const model::Service& service, const std::vector<model::EndpointSlice>& slices) {
    compiler.update(service.ns + "/" + service.name, words::input(service, slices));
  }
  // One slice with these.
  void update(const model::Service& service, const std::vector<model::Endpoint>& endpoints) {
    update(service, std::vector{words::slice(endpoints)});
  }
  [[nodiscard]] const Target& at(const std::string& address, std::uint16_t port = 80) const {
    static const Target kNone{
        "not in the table", std::make_shared<Pool>(), std::make_shared<Pool>(), {}, {}, {}, {}, {}, {}, {}, {}};
    const auto found = compiler.table().find(words::tcp(address, port));
    return found == compiler.table().end() ? kNone : *found->second;
  }
  [[nodiscard]] std::string inside(const std::string& address, std::uint16_t port = 80) const {
    return words::text(*at(address, port).internal);
  }
  [[nodiscard]] std::string outside(const std::string& address, std::uint16_t port = 80) const {
    return words::text(*at(address, port).external);
  }

  // With a node port, an external IP and a load balancer's.
  static model::Service exposed() {
    model::Service service = words::web();
    service.ports.front().node_port = 30080;
    service.external_ips = words::ips({kExternal});
    service.load_balancer_ips = words::ips({kBalancer});
    return service;
  }
  static model::Service exposed_local() {
    model::Service service = exposed();
    service.external_local = true;
    return service;
  }
  struct Entrance {
    const char* address;
    std::uint16_t port;
  };
  static constexpr std::array<Entrance, 3> kEntrances{{{kNode, 30080}, {kExternal, 80}, {kBalancer, 80}}};

  Compiler compiler;
};

}  // namespace sluice::service
