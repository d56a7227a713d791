// SPDX-License-Identifier: Apache-2.0
// What the nat module is to do with packets to Services: each address and port that a Service has, and the
// backends behind it. Source: Kubernetes, "Virtual IPs and Service Proxies"; KEP-1669, KEP-2086, KEP-4444.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/address.h"
#include "daemon/model/objects.h"

namespace sluice::service {

struct Frontend {
  Address address;
  model::Protocol protocol = model::Protocol::kTcp;
  std::uint16_t port = 0;
  auto operator<=>(const Frontend&) const = default;
};

struct Backend {
  Address address;
  std::uint16_t port = 0;
  auto operator<=>(const Backend&) const = default;
};

// Backends and the table by which one is chosen. Shared by frontends that have the same.
struct Pool {
  std::vector<Backend> backends;     // sorted, distinct
  std::vector<std::uint16_t> slots;  // Maglev: index into backends; empty if there are none
  bool operator==(const Pool&) const = default;
};

struct Target {
  std::string service;  // "shop/web:http", for output
  // To packets from inside the cluster (pods, the node) and from outside. The same object where they are
  // equal.
  std::shared_ptr<const Pool> internal, external;
  // Nobody can be reached by this policy (Local), but elsewhere somebody can: dropped, not refused.
  bool internal_elsewhere = false, external_elsewhere = false;
  bool from_outside = false;  // whether packets from outside the cluster are served at all: not a cluster IP
  bool masquerade = false;    // what comes from outside: externalTrafficPolicy Cluster
  bool on_loopback = false;   // the node's processes reach it on 127.0.0.0/8, too
  std::optional<std::uint32_t> affinity_seconds;
  std::vector<Prefix> source_ranges;  // from outside only; empty: everybody
  // UDP: besides those in the pools, the backends that serve. They get no new connections; those that they
  // have go on. Sorted, distinct.
  std::vector<Backend> retained = {};
  bool operator==(const Target&) const = default;
};

// What a load balancer is told that asks a Service's healthCheckNodePort whether this node can serve it.
struct HealthCheck {
  std::string ns, name;
  unsigned local_endpoints = 0;  // ready ones of this node, by address
  bool operator==(const HealthCheck&) const = default;
};
using HealthChecks = std::map<std::uint16_t, HealthCheck>;  // by port

using Table = std::map<Frontend, std::shared_ptr<const Target>>;

}  // namespace sluice::service
