// SPDX-License-Identifier: Apache-2.0
// Services and EndpointSlices to the table of frontends of one node.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/service/claims.h"
#include "daemon/service/endpoints.h"
#include "daemon/service/pools.h"
#include "daemon/service/table.h"

namespace sluice::service {

// All that is known of one Service.
struct Input {
  std::shared_ptr<const model::Service> service;  // none: gone, or not seen yet
  Slices slices;                                  // those with its name in label kubernetes.io/service-name
  std::optional<HostPorts> host_ports = {};       // instead of a Service
  bool operator==(const Input&) const = default;  // by address: what changed is another object
};

struct Changes {
  Table set;                      // new ones, and those with another target
  std::vector<Frontend> removed;  // sorted
  // A Service began to be without a frontend: another has it, or it may not be claimed. One for each pair of
  // Services, one for each reason.
  std::vector<std::string> warnings;
};

// No I/O and no clock. The table depends on the present inputs and node only, not on how they came about.
class Compiler {
 public:
  // `key` is "namespace/name" of a Service, or what names the host ports of a pod. The cost is that of this
  // one.
  void update(const std::string& key, Input input);
  // Computes every Service again, if anything changed.
  void set_node(NodeView node);

  [[nodiscard]] const Table& table() const { return table_; }
  // Of two Services with one port (which the API server prevents) the first by namespace and name has it.
  [[nodiscard]] HealthChecks health_checks() const;
  // Everything that Services and hostPorts ask for and do not get, as in the warnings.
  [[nodiscard]] std::vector<std::string> rejected() const;
  // Counts on whenever rejected() may have changed.
  [[nodiscard]] std::uint64_t revision() const { return revision_; }
  // Since the last call. A frontend that changed and changed back is not among them.
  [[nodiscard]] Changes take_changes();

 private:
  struct Known {
    Input input;
    std::vector<Claim> claims;
    std::vector<std::string> refused;
    std::size_t frontends = 0;            // asked for
    bool admitted = true;                 // within what its namespace may have
    std::uint16_t health_check_port = 0;  // of health_checks_; 0: none
  };
  using Services = std::map<std::string, Known>;

  struct Claimant {
    Origin origin = Origin::kClusterIp;
    const std::string* key = nullptr;  // of services_
    std::shared_ptr<const Target> target;
  };
  // The first has the frontend: the smallest origin, of several the smallest key.
  using Claimants = std::vector<Claimant>;

  // What its namespace may have: of its Services those that fit, in the order of their names.
  struct Budget {
    std::size_t asked = 0;
    std::set<std::string> keys;
  };
  void compile(Services::value_type& service);
  void compile(const std::string& key);
  // Services that want an address which has become another's cluster IP, or is one no more, are compiled.
  void move_addresses(const std::string& key, const model::Service* before, const model::Service* now);
  void charge(Services::value_type& service);
  void share(const Budget& budget);
  void refuse(const std::string& key, Known& known, std::vector<std::string> refused);
  // Of one who does not get a frontend, and whoever has it: the first such frontend, and how many more.
  using Conflicts = std::map<std::pair<std::string, std::string>, std::pair<Frontend, std::size_t>>;
  static void add(Conflicts& conflicts, const Claimant& without, const Claimant& owner,
                  const Frontend& frontend);
  static void tell(const Conflicts& conflicts, std::vector<std::string>& into);
  void replace_health_check(const std::string& key, Known& known);
  void replace(const std::string& key, const Frontend& frontend, const Claim* claim);
  [[nodiscard]] static std::string name_of(const Claimant& claimant);
  void warn(const Frontend& frontend, const Claimants& before, const Claimants& now);

  NodeView node_;
  Pools pools_;
  Services services_;
  ClusterIps cluster_ips_;
  std::map<Address, std::set<std::string>> claimed_outside_;  // keys, by load balancer address or external IP
  std::map<std::string, Budget> budgets_;                     // by namespace
  Conflicts conflicts_;                                       // since the last take_changes()
  std::map<Frontend, Claimants> claimants_;
  std::map<std::uint16_t, std::map<std::string, HealthCheck>> health_checks_;  // by port and Service's key
  std::uint64_t revision_ = 0;
  Table table_;
  Table before_;  // the targets at the last take_changes() of what was touched since; none: was not there
  std::vector<std::string> warnings_;
};

}  // namespace sluice::service
