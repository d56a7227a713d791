// SPDX-License-Identifier: Apache-2.0
// The state of the cluster that rules are made of. Plain values; the same cluster always gives the same
// verdicts.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "daemon/model/objects.h"

namespace sluice::policy {

struct LocalEndpoint {
  std::uint32_t id = 0;  // of the datapath; not 0
  std::string ns;  // both empty: a container that is no pod; no policy selects it and no selector matches it
  std::string pod;
  // Not empty: a sandbox of an earlier pod of that name, whose last labels Cluster::pods has under key().
  std::string earlier_uid = {};

  bool operator==(const LocalEndpoint&) const = default;
  // In Cluster::pods. Not there: a pod that is not known; nothing is admitted from it or to it.
  [[nodiscard]] std::string key() const {
    return ns + "/" + pod + (earlier_uid.empty() ? "" : "@" + earlier_uid);
  }
};

// By "namespace/name", and why; see Refusals.
using RefusedPolicies = std::map<std::string, std::string>;

struct Cluster {
  std::map<std::string, model::Namespace> namespaces;
  // By "namespace/name". Pods without addresses, with host network, or finished are no peers.
  std::map<std::string, std::shared_ptr<const model::Pod>> pods;
  std::map<std::string, std::shared_ptr<const model::NetworkPolicy>> policies;  // by "namespace/name"
  std::map<std::uint32_t, LocalEndpoint> endpoints;                             // by id
};

// What may be other in a cluster than it was, by the keys of its maps. That something is named that is as it
// was does no harm.
struct Changes {
  bool everything = false;  // whatever the sets below say
  std::set<std::string> namespaces, pods, policies;
  std::set<std::uint32_t> endpoints;
};

}  // namespace sluice::policy
