// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/conntrack.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace sluice::datapath {

namespace {

constexpr std::size_t kHeaviest = 5;
// Of an owner's entries, as SLUICE_CT_CROWDED of all: an owner's share is from a half of the free ones down.
constexpr std::uint32_t kCrowdedOwner = 2 * SLUICE_CT_CROWDED;
constexpr std::chrono::minutes kEmptyTable{1};
constexpr std::uint64_t kMemoryPerEntry = 32 << 10;
constexpr std::uint64_t kClockLag = SLUICE_NS_PER_S / 50;  // more than a tick, by which last_seen_ns may lag

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * SLUICE_NS_PER_S + static_cast<std::uint64_t>(now.tv_nsec);
}

std::int64_t left_ns(const sluice_ct_key& key, const sluice_ct_entry& entry, std::uint64_t now) {
  const auto progress = sluice_ct_progress(entry.seal, entry.progress);
  return static_cast<std::int64_t>(entry.last_seen_ns + sluice_ct_lifetime_ns(key.proto, progress) - now);
}

using Found = ConntrackTable::Found;

// Every address that the entry tells of: the ends that policy sees, and what stands for one of them.
std::array<Address, 3> addresses_of(const Found& found) {
  return {Address::from_abi(found.key.addr[0]), Address::from_abi(found.key.addr[1]),
          Address::from_abi(found.entry.nat.addr)};
}

// Of the masquerade address of a connection; 0: it has none.
std::uint8_t masquerade_number(const Found& found) {
  const auto flags = found.entry.nat.flags;
  return flags & SLUICE_CT_MASQUERADE ? static_cast<std::uint8_t>(flags >> SLUICE_CT_NUMBER_SHIFT) : 0;
}

bool over(const Found& found, std::uint64_t now) { return left_ns(found.key, found.entry, now) < 0; }

bool over_where_room_is_short(const Found& found, std::uint64_t now) {
  const auto progress = sluice_ct_progress(found.entry.seal, found.entry.progress);
  return static_cast<std::int64_t>(now - found.entry.last_seen_ns) >
         static_cast<std::int64_t>(sluice_ct_short_lifetime_ns(found.key.proto, progress));
}

// Whatever part of a connection the entry tells of.
bool matches(const sluice_ct_key& key, const sluice_ct_entry& entry, const ConnectionFilter& filter) {
  if (filter.proto && *filter.proto != key.proto) return false;
  if (!filter.address) return true;
  const auto wanted = filter.address->abi();
  return std::ranges::any_of(
      std::initializer_list<sluice_addr>{key.addr[0], key.addr[1], entry.nat.addr},
      [&](const sluice_addr& each) { return std::ranges::equal(each.bytes, wanted.bytes); });
}

bool is_view(const sluice_ct_entry& entry) {
  return (entry.nat.flags & (SLUICE_CT_ALIAS | SLUICE_CT_FRONT)) != 0;
}

const char* state_of(std::uint8_t proto, std::uint32_t progress) {
  if (progress & SLUICE_CT_CLOSED) return "closed";
  if (progress & (SLUICE_CT_FIN_ORIGIN | SLUICE_CT_FIN_REPLY)) return "closing";
  if (progress & SLUICE_CT_ASSURED) return "established";
  if (progress & SLUICE_CT_REPLIED) return proto == IPPROTO_TCP ? "answered" : "established";
  return "new";
}

Connection describe(const sluice_ct_key& key, const sluice_ct_entry& entry, std::uint64_t now) {
  const int origin = entry.nat.flags & SLUICE_CT_ORIGIN_HIGH ? 1 : 0;
  Connection found;
  found.proto = key.proto;
  found.source = {Address::from_abi(key.addr[origin]), ntohs(key.port_be[origin])};
  found.destination = {Address::from_abi(key.addr[1 - origin]), ntohs(key.port_be[1 - origin])};
  if (entry.nat.flags & SLUICE_CT_SERVICE) {
    found.service = Connection::End{Address::from_abi(entry.nat.addr), ntohs(entry.nat.port_be)};
    found.source.port = ntohs(entry.nat.client_port_be);
  }
  if (entry.nat.flags & SLUICE_CT_MASQUERADE) found.masquerade_port = ntohs(entry.nat.snat_port_be);
  found.state = state_of(key.proto, sluice_ct_progress(entry.seal, entry.progress));
  found.owner = entry.owner;
  const auto idle = static_cast<std::int64_t>(now - entry.last_seen_ns);
  found.idle = std::chrono::nanoseconds(std::max<std::int64_t>(idle, 0));
  found.expires_in = std::chrono::nanoseconds(std::max<std::int64_t>(left_ns(key, entry, now), 0));
  return found;
}

// Which Service's address a connection went to, and by which backend it is served. The bytes of the entry,
// since there may be a million of them to be counted.
struct ServedEnds {
  sluice_addr front, backend;
  __be16 front_port_be, backend_port_be;
  std::uint32_t proto;
  bool operator==(const ServedEnds& other) const { return std::memcmp(this, &other, sizeof *this) == 0; }
};
static_assert(std::has_unique_object_representations_v<ServedEnds>);

struct ServedHash {
  std::size_t operator()(const ServedEnds& ends) const {
    return std::hash<std::string_view>()({reinterpret_cast<const char*>(&ends), sizeof ends});
  }
};
using ServedKeys = std::unordered_map<ServedEnds, std::uint64_t, ServedHash>;

bool is_open_to_service(const sluice_ct_entry& entry) {
  constexpr std::uint32_t kEnds = SLUICE_CT_CLOSED | SLUICE_CT_FIN_ORIGIN | SLUICE_CT_FIN_REPLY;
  return !is_view(entry) && entry.nat.flags & SLUICE_CT_SERVICE &&
         !(sluice_ct_progress(entry.seal, entry.progress) & kEnds);
}

ServedEnds served_key(const sluice_ct_key& key, const sluice_ct_entry& entry) {
  const int backend = entry.nat.flags & SLUICE_CT_ORIGIN_HIGH ? 0 : 1;
  return {entry.nat.addr, key.addr[backend], entry.nat.port_be, key.port_be[backend], key.proto};
}

service::Frontend front_of(const ServedEnds& ends) {
  return {Address::from_abi(ends.front), static_cast<model::Protocol>(ends.proto), ntohs(ends.front_port_be)};
}
service::Backend backend_of(const ServedEnds& ends) {
  return {Address::from_abi(ends.backend), ntohs(ends.backend_port_be)};
}

}  // namespace

std::uint32_t conntrack_size(std::uint64_t memory_bytes) {
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(memory_bytes / kMemoryPerEntry, SLUICE_CONNTRACK_MIN, SLUICE_CONNTRACK_MAX));
}

std::vector<std::int64_t> Conntrack::uses() const {
  std::vector<std::int64_t> copy(SLUICE_CT_USES);
  for (std::size_t i = 0; i < copy.size(); ++i) copy[i] = use_[i].load(std::memory_order_relaxed);
  return copy;
}

// Of what does not, the parts are read while it changes hands (see struct sluice_ct_entry).
bool Conntrack::belongs_together(const Found& found) const {
  const auto hash = sluice_ct_hash(&found.key, secret_.data());
  return found.entry.seal == sluice_ct_seal(hash, &found.entry.nat);
}

// What was counted is of no one moment: a difference that what happened meanwhile may explain is left to the
// next time.
void Conntrack::correct(const std::vector<std::int64_t>& before,
                        const std::vector<std::int64_t>& counted) const {
  for (std::size_t i = 0; i < counted.size(); ++i) {
    const auto now = use_[i].load(std::memory_order_relaxed);
    const auto wrong = now - counted[i];
    if (std::abs(wrong) > std::abs(now - before[i])) use_[i].fetch_sub(wrong, std::memory_order_relaxed);
  }
}

Result<void> Conntrack::collect() {
  std::map<Address, std::uint64_t> gone;
  std::shared_ptr<const UdpServices> services;
  {
    const std::lock_guard lock(mutex_);
    gone = gone_pods_;
    services = services_;
  }
  auto before = uses();
  const auto begun = std::chrono::steady_clock::now();
  if (before[SLUICE_CT_USE_ALL] == 0 && gone.empty() && collected_at_ && begun - *collected_at_ < kEmptyTable)
    return {};
  std::vector<std::int64_t> counted(SLUICE_CT_USES);
  ServedKeys served;
  std::set<Address> kept_alive;
  std::uint64_t removed = 0;
  const auto now = now_ns();
  const auto each_gone = [&](const Found& found, const auto& tell) {
    if (gone.empty()) return;
    for (const auto& address : addresses_of(found))
      if (gone.contains(address)) tell(address);
  };
  // Before this look the addresses were nobody's. Meanwhile another pod may get one.
  const auto of_gone_pod = [&](const Found& found) {
    bool tells = false;
    each_gone(found, [&](const Address&) { tells = true; });
    return tells && found.entry.last_seen_ns + kClockLag < now;
  };
  // Long before anybody's share is used up, what is closed is not kept for its TIME_WAIT.
  const std::int64_t room = table_.room();
  const auto is_crowded = [&](std::uint32_t owner) {
    return before[SLUICE_CT_USE_ALL] > room / SLUICE_CT_CROWDED ||
           (owner < SLUICE_CT_OWNERS && before[owner] > room / kCrowdedOwner);
  };
  auto done = table_.sweep(
      [&](const Found& found) {
        // One that does not belong together for long is of no use to the programs either.
        return !belongs_together(found) || over(found, now) || of_gone_pod(found) ||
               // Made by a packet that was under way when the Services changed.
               (services && services->misleads(found.key, found.entry)) ||
               (is_crowded(found.entry.owner) && over_where_room_is_short(found, now));
      },
      // The programs may have begun it anew since it was read.
      ConntrackTable::Renewed::kStay,
      [&](const Found& found, bool gone_now) {
        auto& counts = gone_now ? before : counted;
        const std::int64_t change = gone_now ? -1 : 1;
        if (found.entry.owner < SLUICE_CT_OWNERS) counts[found.entry.owner] += change;
        counts[SLUICE_CT_USE_ALL] += change;
        removed += gone_now;
        if (!gone_now) each_gone(found, [&](const Address& address) { kept_alive.insert(address); });
        if (!gone_now && is_open_to_service(found.entry)) ++served[served_key(found.key, found.entry)];
      });
  if (!done) return done;
  correct(before, counted);
  collected_at_ = begun;
  const std::lock_guard lock(mutex_);
  expired_total_ += removed;
  served_.clear();
  for (const auto& [ends, count] : served)
    served_.emplace(std::make_pair(front_of(ends), backend_of(ends)), count);
  for (const auto& [address, since] : gone)
    if (const auto known = gone_pods_.find(address);
        known != gone_pods_.end() && known->second == since && !kept_alive.contains(address))
      gone_pods_.erase(known);
  return {};
}

Conntrack::Served Conntrack::served() const {
  const std::lock_guard lock(mutex_);
  return served_;
}

Result<void> Conntrack::serve(std::shared_ptr<const UdpServices> services) {
  std::shared_ptr<const UdpServices> before;
  {
    const std::lock_guard lock(mutex_);
    before = std::exchange(services_, services);
  }
  if (services == before || !services || (before && !services->ends_more_than(*before))) return {};
  return table_.sweep(
      [&](const Found& found) {
        return belongs_together(found) && services->misleads(found.key, found.entry);
      },
      ConntrackTable::Renewed::kGo, [](const Found&, bool) {});
}

void Conntrack::pod_gone(const Address& address) {
  const std::lock_guard lock(mutex_);
  gone_pods_[address] = now_ns();
}

Result<void> Conntrack::give(const Address& address) {
  {
    const std::lock_guard lock(mutex_);
    if (!gone_pods_.contains(address)) return {};
  }
  auto done = table_.sweep(
      [&](const Found& found) {
        return std::ranges::any_of(addresses_of(found), [&](const Address& each) { return each == address; });
      },
      ConntrackTable::Renewed::kGo, [](const Found&, bool) {});
  if (!done) return done;
  const std::lock_guard lock(mutex_);
  gone_pods_.erase(address);
  return {};
}

Result<std::set<std::uint8_t>> Conntrack::masquerade_numbers() const {
  std::set<std::uint8_t> numbers;
  const auto now = now_ns();
  auto done = table_.visit([&](const Found& found) -> Result<void> {
    if (const auto number = masquerade_number(found); number != 0 && !over(found, now))
      numbers.insert(number);
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  return numbers;
}

Result<void> Conntrack::end_masqueraded(std::uint8_t number) const {
  return table_.sweep([&](const Found& found) { return masquerade_number(found) == number; },
                      ConntrackTable::Renewed::kGo, [](const Found&, bool) {});
}

Result<void> Conntrack::forget_strangers(const std::vector<Prefix>& pod_cidrs,
                                         const std::set<Address>& others) {
  const auto is_strange = [&](const Address& address) {
    return !others.contains(address) &&
           std::ranges::any_of(pod_cidrs, [&](const Prefix& cidr) { return cidr.contains(address); });
  };
  return table_.sweep(
      [&](const Found& found) { return std::ranges::any_of(addresses_of(found), is_strange); },
      ConntrackTable::Renewed::kGo, [](const Found&, bool) {});
}

ConntrackStatus Conntrack::status() const {
  ConntrackStatus status;
  const auto use = uses();
  for (std::uint32_t owner = 0; owner < SLUICE_CT_OWNERS; ++owner)
    if (use[owner] > 0) status.heaviest.push_back({owner, static_cast<std::uint64_t>(use[owner])});
  const auto kept = std::min(kHeaviest, status.heaviest.size());
  std::ranges::partial_sort(status.heaviest, status.heaviest.begin() + static_cast<std::ptrdiff_t>(kept),
                            std::ranges::greater{}, &ConntrackStatus::Use::entries);
  status.heaviest.resize(kept);
  status.entries = static_cast<std::uint64_t>(std::max<std::int64_t>(use[SLUICE_CT_USE_ALL], 0));
  status.max_entries = table_.room();
  const std::lock_guard lock(mutex_);
  status.expired_total = expired_total_;
  return status;
}

Result<Connections> Conntrack::list(const ConnectionFilter& filter, std::size_t most) const {
  Connections found;
  const auto now = now_ns();
  auto done = table_.visit([&](const Found& each) -> Result<void> {
    if (is_view(each.entry) || !belongs_together(each) || over(each, now) ||
        !matches(each.key, each.entry, filter))
      return {};
    if (++found.total <= most) found.list.push_back(describe(each.key, each.entry, now));
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  return found;
}

Result<std::uint64_t> Conntrack::flush(const ConnectionFilter& filter) const {
  std::uint64_t ended = 0;
  auto done =
      table_.sweep([&](const Found& found) { return matches(found.key, found.entry, filter); },
                   ConntrackTable::Renewed::kGo,
                   [&](const Found& found, bool removed) { ended += removed && !is_view(found.entry); });
  if (!done) return tl::unexpected(done.error());
  return ended;
}

}  // namespace sluice::datapath
