// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/endpoints.h"

#include <linux/bpf.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "common/fault_point.h"
#include "common/guard.h"

namespace sluice::datapath {

namespace {

sluice_endpoint abi_of(const Endpoint& endpoint) {
  sluice_endpoint value{};
  value.ipv4 = endpoint.ipv4.abi();
  value.ifindex = endpoint.ifindex;
  std::copy(endpoint.mac.bytes().begin(), endpoint.mac.bytes().end(), value.mac);
  return value;
}

sluice_mac_key mac_key(const sluice_endpoint& value) {
  sluice_mac_key key{};
  std::copy(std::begin(value.mac), std::end(value.mac), key.mac);
  return key;
}

void set_flag(sluice_endpoint& value, std::uint16_t flag, bool on) {
  value.flags = static_cast<std::uint16_t>(on ? value.flags | flag : value.flags & ~flag);
}

bool equal(const auto& a, const auto& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// Another endpoint's address, MAC or interface is never taken over: two pods would get each other's packets.
template <typename K>
Result<void> claim(const Map<K, std::uint32_t>& map, const K& key, std::uint32_t id,
                   const std::string& what) {
  auto done = map.update(key, id, BPF_NOEXIST);
  if (done || done.error().code != EEXIST) return done;
  auto owner = map.lookup(key);
  if (!owner) return tl::unexpected(owner.error());
  if (*owner == id) return {};
  return failure("{} is taken by endpoint {}: detach that one first", what, owner->value_or(0));
}

template <typename K>
Result<void> release(const Map<K, std::uint32_t>& map, const K& key, std::uint32_t id) {
  auto owner = map.lookup(key);
  if (!owner) return tl::unexpected(owner.error());
  if (*owner != id) return {};
  return map.erase(key).map([](bool) {});
}

// Entries whose endpoint has another key now, or is none any more.
template <typename K, typename KeyOf>
Result<void> sweep(const Map<K, std::uint32_t>& map,
                   const std::map<std::uint32_t, sluice_endpoint>& endpoints, const KeyOf& key_of) {
  auto entries = map.entries();
  if (!entries) return tl::unexpected(entries.error());
  for (const auto& [key, id] : *entries) {
    const auto endpoint = endpoints.find(id);
    if (endpoint != endpoints.end() && equal(key_of(endpoint->second), key)) continue;
    if (auto done = map.erase(key); !done) return tl::unexpected(done.error());
  }
  return {};
}

}  // namespace

Result<std::optional<sluice_endpoint>> Endpoints::find(std::uint32_t id) const {
  if (id == 0 || id >= SLUICE_MAX_ENDPOINTS)
    return failure("endpoint id {} is not within 1 to {}", id, SLUICE_MAX_ENDPOINTS - 1);
  auto value = maps_.endpoints.lookup(id);
  if (!value) return tl::unexpected(value.error());
  if (!*value || (*value)->ifindex == 0) return std::nullopt;
  return **value;
}

Result<void> Endpoints::adopt(NetlinkSocket& netlink) {
  auto entries = maps_.endpoints.entries();
  if (!entries) return tl::unexpected(entries.error());
  attached_.clear();
  for (const auto& [id, value] : *entries)
    if (value.ifindex != 0) attached_.emplace(id, value);
  if (auto done = drop_unfinished(netlink); !done) return done;
  auto swept = sweep(maps_.locals, attached_, [](const sluice_endpoint& e) {
                 return e.ipv4;
               }).and_then([&] {
                   return sweep(maps_.macs, attached_, mac_key);
                 }).and_then([&] {
    return sweep(maps_.ifaces, attached_,
                 [](const sluice_endpoint& e) { return sluice_iface_key{e.ifindex}; });
  });
  if (!swept) return swept;
  SLUICE_FAULT_POINT("adopt.endpoints_swept");
  for (const auto& [id, value] : attached_) {
    if (auto done = attacher_.refresh(value.ifindex, SLUICE_HOOK_POD); !done)
      return tl::unexpected(done.error());
    if (auto done = attacher_.finish_interrupted_move(netlink, value.ifindex); !done) return done;
    SLUICE_FAULT_POINT("adopt.program_refreshed");
  }
  return {};
}

// An endpoint without a program on its interface: attach() or detach() was cut short, or the interface is
// gone. But one that is up was attached once: without the program that it lost, its pod is without policy.
Result<void> Endpoints::drop_unfinished(NetlinkSocket& netlink) {
  for (auto it = attached_.begin(); it != attached_.end();) {
    const auto& [id, value] = *it;
    if (!attacher_.attached(value.ifindex)) {
      auto link = netlink.link(static_cast<int>(value.ifindex));
      if (!link && link.error().code != ENODEV) return tl::unexpected(link.error());
      if (!link || !link->up) {
        // Its pin outlives an interface.
        if (auto done = attacher_.detach(value.ifindex); !done) return done;
        if (auto done = maps_.endpoints.update(id, sluice_endpoint{}); !done) return done;
        it = attached_.erase(it);
        continue;
      }
      spdlog::error("interface {} of endpoint {} had lost its program; it gets one again", link->name, id);
    }
    ++it;
  }
  return attacher_.sweep();
}

Result<std::vector<Endpoint>> Endpoints::list(NetlinkSocket& netlink) const {
  auto links = netlink.links();
  if (!links) return tl::unexpected(links.error());
  std::vector<Endpoint> found;
  for (const auto& [id, value] : attached_) {
    Endpoint endpoint;
    endpoint.id = id;
    endpoint.ifindex = value.ifindex;
    endpoint.ipv4 = Address::from_abi(value.ipv4);
    endpoint.mac = Mac(std::to_array(value.mac));
    const auto link = std::find_if(links->begin(), links->end(), [&](const Link& each) {
      return static_cast<std::uint32_t>(each.index) == endpoint.ifindex;
    });
    if (link != links->end()) endpoint.ifname = link->name;
    found.push_back(std::move(endpoint));
  }
  return found;
}

Result<void> Endpoints::attach(NetlinkSocket& netlink, const Endpoint& endpoint, unsigned mtu) {
  auto present = find(endpoint.id);
  if (!present) return tl::unexpected(present.error());
  auto value = abi_of(endpoint);
  if (*present) value.flags = (*present)->flags;
  if (*present && !equal(**present, value))
    return failure("endpoint {} is attached already, with address {} on interface number {}: detach it first",
                   endpoint.id, Address::from_abi((*present)->ipv4).to_string(), (*present)->ifindex);
  const auto link = netlink.link(static_cast<int>(endpoint.ifindex));
  if (!link) return tl::unexpected(link.error());
  value.flags = 0;
  set_flag(value, SLUICE_ENDPOINT_QUEUED, link->queues());
  set_flag(value, SLUICE_ENDPOINT_KEEPS_SOURCE, endpoint.keeps_source);
  Guard undo([&] {
    // The failure that led here is the one worth reporting; what cannot be undone is swept at the next start.
    static_cast<void>(attacher_.detach(endpoint.ifindex));
    static_cast<void>(erase(endpoint.id, value));
  });
  if (auto done = write(endpoint, value); !done) return done;
  const auto ingress = endpoint.shares_ingress ? Ingress::kShared : Ingress::kOurs;
  if (auto done = attacher_.attach(endpoint.ifindex, SLUICE_HOOK_POD, ingress); !done) return done;
  SLUICE_FAILURE_POINT("endpoint.program_attached");

  LinkChange change;
  change.mtu = mtu;
  change.ipv6_addresses = false;
  if (auto done = netlink.change_link(static_cast<int>(endpoint.ifindex), change); !done) return done;
  SLUICE_FAILURE_POINT("endpoint.mtu_set");
  // Last: no packet of the pod runs before its program is there.
  LinkChange up;
  up.up = true;
  if (auto done = netlink.change_link(static_cast<int>(endpoint.ifindex), up); !done) return done;
  SLUICE_FAILURE_POINT("endpoint.link_up");
  attached_.insert_or_assign(endpoint.id, value);
  undo.dismiss();
  return {};
}

Result<void> Endpoints::write(const Endpoint& endpoint, const sluice_endpoint& value) const {
  const auto id = endpoint.id;
  if (auto done = maps_.endpoints.update(id, value); !done) return done;
  SLUICE_FAILURE_POINT("endpoint.entry_written");
  if (auto done = claim(maps_.ifaces, {endpoint.ifindex}, id, "interface " + endpoint.ifname); !done)
    return done;
  SLUICE_FAILURE_POINT("endpoint.interface_claimed");
  if (auto done = claim(maps_.macs, mac_key(value), id, "MAC address " + endpoint.mac.to_string()); !done)
    return done;
  SLUICE_FAILURE_POINT("endpoint.mac_claimed");
  if (auto done = claim(maps_.locals, value.ipv4, id, "address " + endpoint.ipv4.to_string()); !done)
    return done;
  SLUICE_FAILURE_POINT("endpoint.address_claimed");
  return {};
}

// The address first, the entry last: until then a program with a hint still finds the endpoint, which is
// whole and judged by its rules.
Result<void> Endpoints::erase(std::uint32_t id, const sluice_endpoint& value) const {
  if (auto done = release(maps_.locals, value.ipv4, id); !done) return done;
  SLUICE_FAILURE_POINT("endpoint.address_released");
  if (auto done = release(maps_.macs, mac_key(value), id); !done) return done;
  SLUICE_FAILURE_POINT("endpoint.mac_released");
  if (auto done = release(maps_.ifaces, sluice_iface_key{value.ifindex}, id); !done) return done;
  SLUICE_FAILURE_POINT("endpoint.interface_released");
  if (auto done = maps_.endpoints.update(id, sluice_endpoint{}); !done) return done;
  SLUICE_FAILURE_POINT("endpoint.entry_cleared");
  return {};
}

Result<std::optional<Address>> Endpoints::detach(std::uint32_t id) {
  auto present = find(id);
  if (!present) return tl::unexpected(present.error());
  if (!*present) {
    attached_.erase(id);
    return std::nullopt;
  }
  const auto value = **present;
  if (auto done = erase(id, value); !done) return tl::unexpected(done.error());
  attached_.erase(id);
  // Its program stays and drops: without it, the pod's packets would reach the node's stack unjudged.
  return Address::from_abi(value.ipv4);
}

Result<void> Endpoints::restore_programs() const {
  for (const auto& [id, value] : attached_)
    if (auto done = attacher_.restore(value.ifindex, SLUICE_HOOK_POD); !done) return done;
  return {};
}

Result<void> Endpoints::put_back(NetlinkSocket& netlink, std::vector<std::string>& found) const {
  const auto links = netlink.links();
  if (!links) return tl::unexpected(links.error());
  std::map<std::uint32_t, const Link*> down;
  for (const auto& link : *links)
    if (!link.up) down.emplace(static_cast<std::uint32_t>(link.index), &link);
  LinkChange up;
  up.up = true;
  for (const auto& [id, value] : attached_) {
    const auto link = down.find(value.ifindex);
    if (link == down.end()) continue;
    found.push_back(fmt::format("interface {} of endpoint {} is down", link->second->name, id));
    // ENODEV: its pod goes just now.
    if (auto done = netlink.change_link(static_cast<int>(value.ifindex), up);
        !done && done.error().code != ENODEV)
      return done;
  }
  return {};
}

std::vector<std::uint32_t> Endpoints::links_to_move() const {
  if (!attacher_.moves()) return {};
  const auto by_tcx = attacher_.pinned();
  std::vector<std::uint32_t> found;
  for (const auto& [id, value] : attached_)
    if (!std::binary_search(by_tcx.begin(), by_tcx.end(), value.ifindex)) found.push_back(value.ifindex);
  return found;
}

// Nothing is pinned for an endpoint that went meanwhile: nobody would look for the pin.
Result<void> Endpoints::finish_move(NetlinkSocket& netlink, std::uint32_t ifindex, const Fd& link) const {
  const bool still = std::any_of(attached_.begin(), attached_.end(),
                                 [&](const auto& each) { return each.second.ifindex == ifindex; });
  return still ? attacher_.finish_move(netlink, ifindex, link) : Result<void>();
}

Result<void> Endpoints::refresh_queues(NetlinkSocket& netlink) {
  auto qdiscs = netlink.qdiscs();
  if (!qdiscs) return tl::unexpected(qdiscs.error());
  std::set<std::uint32_t> queued;
  for (const auto& qdisc : *qdiscs)
    if (qdisc.queues()) queued.insert(static_cast<std::uint32_t>(qdisc.link_index));
  return change_flags([&](std::uint32_t, sluice_endpoint& value) {
    set_flag(value, SLUICE_ENDPOINT_QUEUED, queued.contains(value.ifindex));
  });
}

Result<void> Endpoints::set_keeps_source(const std::set<std::uint32_t>& ids) {
  return change_flags([&](std::uint32_t id, sluice_endpoint& value) {
    set_flag(value, SLUICE_ENDPOINT_KEEPS_SOURCE, ids.contains(id));
  });
}

Result<void> Endpoints::change_flags(const std::function<void(std::uint32_t, sluice_endpoint&)>& change) {
  for (auto& [id, value] : attached_) {
    auto changed = value;
    change(id, changed);
    if (changed.flags == value.flags) continue;
    if (auto done = maps_.endpoints.update(id, changed); !done) return done;
    value = changed;
  }
  return {};
}

Result<void> Endpoints::verify_maps(std::uint32_t id, const sluice_endpoint& wanted) const {
  auto present = find(id);
  if (!present) return tl::unexpected(present.error());
  if (!*present) return failure("endpoint {} is not attached", id);
  if (!equal(**present, wanted))
    return failure("endpoint {} is attached with another address, MAC or interface", id);
  const auto owned = [&](const auto& owner, const char* map) -> Result<void> {
    if (!owner) return tl::unexpected(owner.error());
    if (*owner != id) return failure("map '{}' does not lead to endpoint {}", map, id);
    return {};
  };
  return owned(maps_.ifaces.lookup({wanted.ifindex}), "ifaces")
      .and_then([&] { return owned(maps_.macs.lookup(mac_key(wanted)), "macs"); })
      .and_then([&] { return owned(maps_.locals.lookup(wanted.ipv4), "locals"); });
}

Result<void> Endpoints::verify(NetlinkSocket& netlink, const Endpoint& endpoint) const {
  auto link = netlink.link(endpoint.ifname);
  if (!link) return tl::unexpected(link.error());
  if (static_cast<std::uint32_t>(link->index) != endpoint.ifindex)
    return failure("interface {} has number {} where endpoint {} was attached to {}", endpoint.ifname,
                   link->index, endpoint.id, endpoint.ifindex);
  if (!link->up) return failure("interface {} is down", endpoint.ifname);
  auto wanted = abi_of(endpoint);
  if (const auto own = attached_.find(endpoint.id); own != attached_.end()) wanted.flags = own->second.flags;
  if (auto good = verify_maps(endpoint.id, wanted); !good) return good;
  return attacher_.verify(endpoint.ifindex, SLUICE_HOOK_POD);
}

Result<void> Endpoints::audit(std::vector<std::string>& differences) const {
  auto entries = maps_.endpoints.entries();
  if (!entries) return tl::unexpected(entries.error());
  for (const auto& [id, value] : *entries)
    if (value.ifindex != 0 && !attached_.contains(id))
      differences.push_back(fmt::format("endpoints: {} should not be there", id));
  for (const auto& [id, value] : attached_) {
    if (auto good = verify_maps(id, value); !good)
      differences.push_back(fmt::format("endpoints: {}", good.error().message));
    // One whose interface is gone, with its pod's namespace, waits for the controller to notice.
    if (auto good = attacher_.verify(value.ifindex, SLUICE_HOOK_POD); !good && good.error().code != ENODEV)
      differences.push_back(fmt::format("endpoint {}: {}", id, good.error().message));
  }
  return {};
}

}  // namespace sluice::datapath
