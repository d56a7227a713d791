// SPDX-License-Identifier: Apache-2.0
// What the source has told, joined with the attachments of this node: the policy::Cluster that rules are made
// of. A pod attached here has the address that IPAM gave it, from the moment of ADD, whatever its status says
// yet. A sandbox belongs to a pod by its UID: it keeps the labels that this pod was last known with when the
// object is gone, cannot be used any more, or is another pod of the same name. Services and EndpointSlices
// are kept beside it: rules do not depend on them, nor wait for them.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "common/address.h"
#include "daemon/model/by_name.h"
#include "daemon/model/objects.h"
#include "daemon/policy/cluster.h"
#include "daemon/source/source.h"

namespace sluice::controller {

// Full state of some kinds | upsert | removal.
using Event = std::variant<source::FullState, model::Object, model::ObjectKey>;

class ClusterState {
 public:
  // By "namespace/name".
  using Services = std::map<std::string, std::shared_ptr<const model::Service>>;
  using Slices = std::map<std::string, std::shared_ptr<const model::EndpointSlice>>;

  void apply(Event event);
  struct Sandbox {
    std::string ns, pod;  // empty: no Kubernetes pod
    std::string uid;      // empty: the runtime did not tell; that of `last` then
    Address ipv4;
    std::shared_ptr<const model::Pod> last;  // as it was last known; none: never seen
  };
  void attach(std::uint32_t endpoint, Sandbox sandbox);
  void detach(std::uint32_t endpoint);
  // In them only attachments have addresses: what an object says of one is from before a restart of the node.
  void set_pod_cidrs(const std::vector<Prefix>& cidrs);
  // The sandboxes whose pod changed since the last call: their records are to be written again.
  [[nodiscard]] std::set<std::uint32_t> take_pods_to_record() { return std::exchange(to_record_, {}); }
  [[nodiscard]] std::shared_ptr<const model::Pod> last_known(std::uint32_t endpoint) const;

  // All is known that rules and attachments depend on; all that Services depend on.
  [[nodiscard]] bool synced() const {
    return knows(
        {model::Kind::kNode, model::Kind::kNamespace, model::Kind::kPod, model::Kind::kNetworkPolicy});
  }
  [[nodiscard]] bool services_synced() const {
    return knows(
        {model::Kind::kNode, model::Kind::kService, model::Kind::kEndpointSlice, model::Kind::kServiceCidr});
  }
  [[nodiscard]] const policy::Cluster& cluster() const { return cluster_; }
  // Of cluster(): the pod that has the address, as one finds it that looks at all of them in order.
  [[nodiscard]] const model::Pod* peer_at(const Address& address) const;
  [[nodiscard]] const std::map<std::string, model::Node>& nodes() const { return nodes_; }
  // Of all ServiceCIDRs, in order: nobody but a Service has an address in them.
  [[nodiscard]] const std::vector<Prefix>& service_ranges() const { return service_ranges_; }
  // As the source tells it, without the address of its attachment.
  [[nodiscard]] const model::Pod* pod(const std::string& ns, const std::string& name) const;
  // The one that has the address by what its object says; none: no pod, or more than one that lives.
  [[nodiscard]] const model::Pod* pod_at(const Address& address, const std::string& node) const;

  // Has a pod of the node an address in the range, by what its object says?
  [[nodiscard]] bool has_pods_in(const Prefix& range, const std::string& node) const;

  // What changed since the last call, in words ("NetworkPolicy shop/db changed"), of very many the first;
  // empty: nothing that rules depend on.
  [[nodiscard]] std::vector<std::string> take_changes();
  // The same for the compiler, by its own last call.
  [[nodiscard]] policy::Changes take_policy_changes() { return std::exchange(policy_changes_, {}); }
  // That of a Node, or of a ServiceCIDR, in which no node has an address.
  [[nodiscard]] bool take_nodes_changed();

  [[nodiscard]] const Services& services() const { return services_; }
  // Of the Service "namespace/name", which need not be known itself.
  [[nodiscard]] const Slices& slices_of(const std::string& service) const;
  // The Services, by "namespace/name", that changed since the last call or of which a slice did: also those
  // that are gone, and those that are not known (yet).
  [[nodiscard]] std::set<std::string> take_service_changes();

 private:
  using PodPointer = std::shared_ptr<const model::Pod>;
  struct NameOf {
    model::NamespacedName operator()(const PodPointer& pod) const { return {pod->ns, pod->name}; }
  };
  // As told.
  using ToldPods = std::unordered_set<PodPointer, model::HashByName<NameOf>, model::EqualByName<NameOf>>;

  template <typename Value>
  class Shared {
   public:
    void share(Value& value) {
      value = *all_.insert(value).first;
      if (all_.size() < 2 * kept_ + 1000) return;
      std::erase_if(all_, [](const Value& each) { return each.alone(); });
      kept_ = all_.size();
    }

   private:
    std::set<Value> all_;
    std::size_t kept_ = 0;  // at the last look for those out of use
  };

  // Of pods_; nullptr: there is none.
  [[nodiscard]] PodPointer told(const std::string& key) const;
  [[nodiscard]] static std::string key_of(const model::Pod& pod) { return pod.ns + "/" + pod.name; }
  void tell(std::string change);
  void replace(model::Kind kind, std::vector<model::Object> objects);
  void put(model::Object object);
  void erase(const model::ObjectKey& key);
  void put_slice(model::EndpointSlice slice);
  void refresh_service_ranges();
  void erase_slice(const std::string& name);
  [[nodiscard]] bool knows(std::initializer_list<model::Kind> kinds) const;
  // The cluster's pods of that name from the source's and the attachments, and those of all names whose
  // objects have an address in common with it.
  void refresh_pod(const std::string& key);
  void refresh_one(const std::string& key);
  void collect_rivals(const std::string& key, std::set<std::string>& rivals) const;
  void claim(const std::string& key, bool claims);
  void put_pod(std::shared_ptr<const model::Pod> pod, const std::string& key);
  void set_pod(const std::string& name, std::shared_ptr<const model::Pod> pod);
  [[nodiscard]] std::set<std::string> made_of(const std::string& key) const;
  [[nodiscard]] bool is_attached(const std::string& key, const model::Pod& pod) const;
  [[nodiscard]] bool owns(const std::string& key, const Address& address) const;

  policy::Cluster cluster_;
  std::map<std::string, model::Node> nodes_;
  ToldPods pods_;
  std::map<std::uint32_t, Sandbox> sandboxes_;                     // by endpoint
  std::map<std::string, std::set<std::uint32_t>> sandboxes_of_;    // by "namespace/name"; none is empty
  // Keys of cluster_.pods by that of pods_ that they are made of; left out where it is that key alone, or
  // none.
  std::map<std::string, std::set<std::string>> made_of_;
  std::unordered_multimap<Address, const model::Pod*> claims_;   // of objects: address -> one of pods_
  std::multimap<Address, std::uint32_t> held_;                   // -> endpoint
  // Of pods_, so that equal ones share memory.
  Shared<model::Labels> labels_;
  Shared<model::ContainerPorts> ports_;
  std::vector<Prefix> pod_cidrs_;
  std::map<std::string, model::ServiceCidr> service_cidrs_;
  std::vector<Prefix> service_ranges_;
  std::set<std::uint32_t> to_record_;
  std::vector<std::string> changes_;
  policy::Changes policy_changes_;
  bool nodes_changed_ = false;
  Services services_;
  std::map<std::string, Slices> slices_of_;        // by their Service; none is empty
  std::map<std::string, std::string> service_of_;  // by slice; "": of none
  std::set<std::string> service_changes_;
  unsigned synced_ = 0;
};

}  // namespace sluice::controller
