// SPDX-License-Identifier: Apache-2.0
// What the source has told, joined with the attachments of this node: the policy::Cluster that rules are made
// of. A pod attached here has the address that IPAM gave it, from the moment of ADD, whatever its status says
// yet.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "daemon/ipam/ipam.h"
#include "daemon/model/objects.h"
#include "daemon/policy/cluster.h"
#include "daemon/source/source.h"

namespace sluice::controller {

// Full state of some kinds | upsert | removal.
using Event = std::variant<source::FullState, model::Object, model::ObjectKey>;

class ClusterState {
 public:
  void apply(Event event);
  void attach(std::uint32_t endpoint, const std::string& ns, const std::string& pod, const Address& ipv4);
  void detach(std::uint32_t endpoint);

  [[nodiscard]] bool synced() const { return synced_ == (1u << model::kKinds) - 1; }
  [[nodiscard]] const policy::Cluster& cluster() const { return cluster_; }
  [[nodiscard]] const std::map<std::string, model::Node>& nodes() const { return nodes_; }
  // As the source tells it, without the address of its attachment.
  [[nodiscard]] const model::Pod* pod(const std::string& ns, const std::string& name) const;
  [[nodiscard]] const model::Pod* pod_at(const Address& address, const std::string& node) const;

  // What changed since the last call, in words ("NetworkPolicy shop/db changed"); empty: nothing that rules
  // depend on.
  [[nodiscard]] std::vector<std::string> take_changes();
  [[nodiscard]] bool take_nodes_changed();

 private:
  void replace(model::Kind kind, std::vector<model::Object> objects);
  void put(model::Object object);
  void erase(const model::ObjectKey& key);
  void refresh_pod(const std::string& key);  // the cluster's pod from the source's and the attachments

  policy::Cluster cluster_;
  std::map<std::string, model::Node> nodes_;
  std::map<std::string, std::shared_ptr<const model::Pod>> pods_;      // as told, by "namespace/name"
  std::map<std::string, std::map<std::uint32_t, Address>> addresses_;  // of attachments, by "namespace/name"
  std::vector<std::string> changes_;
  bool nodes_changed_ = false;
  unsigned synced_ = 0;
};

}  // namespace sluice::controller
