// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/udp_services.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace sluice::datapath {

bool UdpServices::End::operator==(const End& other) const {
  return std::memcmp(this, &other, sizeof *this) == 0;
}

std::size_t UdpServices::Hash::operator()(const End& end) const {
  static_assert(std::has_unique_object_representations_v<End>);
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(&end), sizeof end});
}

UdpServices::UdpServices(const service::Table& in_force, const std::vector<service::Frontend>& unsettled) {
  const auto end_of = [](const service::Frontend& frontend) {
    return End{frontend.address.abi(), htons(frontend.port)};
  };
  for (const auto& frontend : unsettled)
    if (frontend.protocol == model::Protocol::kUdp) targets_.emplace(end_of(frontend), nullptr);
  for (const auto& [frontend, target] : in_force)
    if (frontend.protocol == model::Protocol::kUdp) targets_.emplace(end_of(frontend), target);
}

bool UdpServices::leads_to(const service::Target& target, const service::Backend& backend) {
  const auto has = [&](const std::vector<service::Backend>& backends) {
    return std::ranges::binary_search(backends, backend);
  };
  return has(target.internal->backends) || has(target.external->backends) || has(target.retained);
}

bool UdpServices::misleads(const sluice_ct_key& key, const sluice_ct_entry& entry) const {
  if (key.proto != IPPROTO_UDP || entry.nat.flags & (SLUICE_CT_ALIAS | SLUICE_CT_SERVICE)) return false;
  const auto at = [&](int end) { return targets_.find({key.addr[end], key.port_be[end]}); };
  if (!(entry.nat.flags & SLUICE_CT_FRONT)) {
    // By no Service, though its destination is one's.
    const auto found = at(entry.nat.flags & SLUICE_CT_ORIGIN_HIGH ? 0 : 1);
    return found != targets_.end() && found->second;
  }
  const service::Backend backend{Address::from_abi(entry.nat.addr), ntohs(entry.nat.port_be)};
  bool served = false;
  for (const int end : {0, 1}) {  // a front does not tell which of them is the Service's
    const auto found = at(end);
    if (found == targets_.end()) continue;
    if (!found->second || leads_to(*found->second, backend)) return false;
    served = true;
  }
  // Of its own side is also what goes to the backend itself, by another port.
  return served || key.side != SLUICE_CT_OWN_SIDE;
}

bool UdpServices::ends_more_than(const UdpServices& before) const {
  const auto gone = [&](const Targets::value_type& old) { return !targets_.contains(old.first); };
  if (std::ranges::any_of(before.targets_, gone)) return true;
  return std::ranges::any_of(targets_, [&](const Targets::value_type& now) {
    const auto& [end, target] = now;
    const auto old = before.targets_.find(end);
    if (old == before.targets_.end() || !old->second) return target != nullptr;
    if (!target || target == old->second) return false;
    const service::Target &was = *old->second, &is = *target;
    return std::ranges::any_of(std::array{&was.internal->backends, &was.external->backends, &was.retained},
                               [&](const auto* backends) {
                                 return !std::ranges::all_of(
                                     *backends, [&](const auto& each) { return leads_to(is, each); });
                               });
  });
}

}  // namespace sluice::datapath
