// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/peer_pods.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "daemon/policy/prefix_map.h"

namespace sluice::policy {

namespace {

bool is_peer(const model::Pod& pod) { return !pod.host_network && !pod.finished && !pod.ips.empty(); }

// Whether what has `use` is for the identity to tell: does it have such a port, and may it be such a peer?
bool concerns(const NameUse& use, const Identity& identity, const Atoms& atoms) {
  const auto& [peer, name] = use;
  const bool has_port = std::ranges::any_of(identity.ports, [&](const model::ContainerPort& port) {
    return port.name == name.name && static_cast<std::uint8_t>(port.protocol) == name.protocol;
  });
  if (!has_port) return false;
  // Whether it is in a block is told by each address.
  return peer == kEveryone || !std::holds_alternative<PodPredicate>(atoms.content(peer)) ||
         std::ranges::binary_search(identity.atoms, peer);
}

void insert(std::vector<std::uint32_t>& sorted, std::uint32_t number) {
  sorted.insert(std::ranges::lower_bound(sorted, number), number);
}

void erase(std::vector<std::uint32_t>& sorted, std::uint32_t number) {
  sorted.erase(std::ranges::lower_bound(sorted, number));
}

}  // namespace

void PeerPods::set_pod(const std::string& key, const std::shared_ptr<const model::Pod>& now) {
  const auto known = pods_.find(model::NamespacedName::of(key));
  if (known != pods_.end() ? known->source == now : now == nullptr) return;
  std::shared_ptr<Identity> identity;
  if (now != nullptr && is_peer(*now)) identity = identities_.of(*now);
  if (known != pods_.end()) {
    take_away(*known);
    pods_.erase(known);
  }
  if (now != nullptr) add(*pods_.insert(KnownPod{now, std::move(identity)}).first);
}

void PeerPods::add(const KnownPod& pod) {
  if (!pod.identity) return;
  pod.next = std::exchange(pod.identity->pods, &pod);
  if (pod.next != nullptr) pod.next->previous = &pod;
  for (const auto& address : pod.source->ips) {
    addresses_.emplace(address, &pod);
    dirty_.push_back(address);
  }
}

void PeerPods::take_away(const KnownPod& pod) {
  if (!pod.identity) return;
  (pod.previous != nullptr ? pod.previous->next : pod.identity->pods) = pod.next;
  if (pod.next != nullptr) pod.next->previous = pod.previous;
  identities_.release(pod.identity);
  for (const auto& address : pod.source->ips) {
    const auto [first, last] = addresses_.equal_range(address);
    addresses_.erase(std::find_if(first, last, [&](const auto& entry) { return entry.second == &pod; }));
    dirty_.push_back(address);
  }
}

void PeerPods::mark(const Identity& identity) {
  for (const auto* pod = identity.pods; pod != nullptr; pod = pod->next)
    dirty_.insert(dirty_.end(), pod->source->ips.begin(), pod->source->ips.end());
}

// The addresses in `prefix` that no longer prefix contains.
void PeerPods::mark_within(const Prefix& prefix) {
  for (auto it = addresses_.lower_bound(prefix.address());
       it != addresses_.end() && prefix.contains(it->first);) {
    const Prefix* longest = blocks_.longest(it->first);
    if (longest == nullptr || longest->bits() <= prefix.bits()) {
      dirty_.push_back(it->first);
      ++it;
    } else {
      it = addresses_.upper_bound(last_of(*longest));
    }
  }
}

void PeerPods::follow_blocks() {
  ++revision_;
  auto& classes = block_classes_.own();
  // Of those next to each other most go from one class to one other.
  std::unordered_map<std::uint32_t, std::uint32_t> class_of_set{{0, 0}};
  std::uint32_t last_set = 0, last_class = 0;
  const auto class_of = [&](std::uint32_t set) {
    if (set == last_set) return last_class;
    const auto [found, is_new] = class_of_set.try_emplace(set);
    if (is_new) found->second = classes_.number(blocks_.lists(set));
    last_set = set;
    return last_class = found->second;
  };
  struct Uses {
    std::uint32_t peer_class = 0;
    int by = 0;
  } came, went;
  const auto count = [&](Uses& uses, std::uint32_t peer_class, int by) {
    if (uses.peer_class != peer_class) {
      if (uses.by != 0) use(uses.peer_class, uses.by);
      uses = {peer_class, 0};
    }
    uses.by += by;
  };
  auto place = classes.begin();
  blocks_.for_each_changed([&](const Prefix& prefix, const std::uint32_t* set) {
    mark_within(prefix);
    if (place == classes.end() || place->first != prefix) place = classes.lower_bound(prefix);
    const bool known = place != classes.end() && place->first == prefix;
    if (known) count(went, place->second, -1);
    if (set == nullptr) {
      if (known) place = classes.erase(place);
      return;
    }
    const auto now = class_of(*set);
    count(came, now, 1);
    if (known)
      place->second = now;
    else
      place = classes.emplace_hint(place, prefix, now);
    ++place;
  });
  for (const auto& uses : {came, went})
    if (uses.by != 0) use(uses.peer_class, uses.by);
}

void PeerPods::set_name_uses(const std::map<PortName, AtomSet>& in_force,
                             const std::vector<NameUse>& changes) {
  name_uses_ = in_force;
  ++revision_;
  identities_.for_each([&](const Identity& identity) {
    if (std::ranges::any_of(changes, [&](const auto& use) { return concerns(use, identity, atoms_); }))
      mark(identity);
  });
}

bool PeerPods::update() {
  for (const auto* identity : identities_.take_changed()) mark(*identity);
  std::ranges::sort(dirty_);
  dirty_.erase(std::unique(dirty_.begin(), dirty_.end()), dirty_.end());
  for (const auto& address : std::exchange(dirty_, {})) refresh(address);
  bool changed = false;
  for (const auto peer_class : std::exchange(touched_, {})) changed |= settle(peer_class);
  identities_.sweep();
  return changed;
}

void PeerPods::refresh(const Address& address) {
  if (const auto* before = map_.find(address)) use(*before, -1);
  const auto* holder = holder_of(address);
  if (holder == nullptr) return map_.erase(address);
  const auto peer_class = class_of(*holder->identity, blocks_.set_of(address));
  use(peer_class, 1);
  map_.set(address, peer_class);
}

// Of two pods with one address the first by key has it, in the evaluator too.
const KnownPod* PeerPods::holder_of(const Address& address) const {
  const auto [first, last] = addresses_.equal_range(address);
  if (first == last) return nullptr;
  const auto text = [](const auto& entry) {
    return entry.second->source->ns + "/" + entry.second->source->name;
  };
  if (std::next(first) == last) return first->second;
  return std::min_element(first, last, [&](const auto& a, const auto& b) { return text(a) < text(b); })
      ->second;
}

std::uint32_t PeerPods::class_of(Identity& identity, std::uint32_t block_set) {
  if (std::exchange(identity.classes_revision, revision_) != revision_) identity.classes.clear();
  const auto known =
      std::ranges::find(identity.classes, block_set, &std::pair<std::uint32_t, std::uint32_t>::first);
  if (known != identity.classes.end()) return known->second;
  AtomSet set;
  std::ranges::merge(identity.atoms, blocks_.lists(block_set), std::back_inserter(set));
  AtomSet named;
  for (const auto& port : identity.ports) {
    const auto protocol = static_cast<std::uint8_t>(port.protocol);
    const auto use = name_uses_.find({port.name, protocol});
    if (use == name_uses_.end()) continue;
    const auto uses_it = [&](AtomId atom) { return std::ranges::binary_search(use->second, atom); };
    if (uses_it(kEveryone) || std::ranges::any_of(set, uses_it))
      named.push_back(atoms_.number(NamedPort{port.name, protocol, port.port}));
  }
  set.insert(set.end(), named.begin(), named.end());
  std::ranges::sort(set);
  set.erase(std::unique(set.begin(), set.end()), set.end());
  const std::uint32_t number = set.empty() ? 0 : classes_.number(set);
  identity.classes.emplace_back(block_set, number);
  return number;
}

void PeerPods::use(std::uint32_t peer_class, int by) {
  uses_[peer_class] += static_cast<std::uint32_t>(by);
  touched_.insert(peer_class);
}

bool PeerPods::settle(std::uint32_t peer_class) {
  const auto uses = uses_.find(peer_class);
  const bool now = uses->second > 0;
  if (!now) uses_.erase(uses);
  if (std::ranges::binary_search(index_.all, peer_class) == now) return false;
  (now ? insert : erase)(index_.all, peer_class);
  for (const AtomId atom : classes_.content(peer_class)) {
    auto& with_atom = index_.with_atom[atom];
    (now ? insert : erase)(with_atom, peer_class);
    if (with_atom.empty()) index_.with_atom.erase(atom);
  }
  return true;
}

void PeerPods::sweep(unsigned kept) {
  classes_.sweep({index_.all.begin(), index_.all.end()}, kept);
  ++revision_;
}

}  // namespace sluice::policy
