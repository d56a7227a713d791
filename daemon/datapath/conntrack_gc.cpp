// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/conntrack_gc.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <ctime>

namespace sluice::datapath {

namespace {

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * SLUICE_NS_PER_S + static_cast<std::uint64_t>(now.tv_nsec);
}

// An entry that does not belong together (see struct sluice_ct_entry) is read while it changes hands; one
// that stays so is of no use to the programs either.
bool over(const sluice_ct_key& key, const sluice_ct_entry& entry, std::uint64_t now) {
  if (entry.seal != sluice_ct_seal(sluice_ct_hash(&key), &entry.nat)) return true;
  const auto idle = static_cast<std::int64_t>(now - entry.last_seen_ns);
  const auto progress = sluice_ct_progress(entry.seal, entry.progress);
  return idle > static_cast<std::int64_t>(sluice_ct_lifetime_ns(key.proto, progress));
}

}  // namespace

Result<void> ConntrackGc::collect() {
  std::uint64_t left = 0;
  std::uint64_t removed = 0;
  const auto now = now_ns();
  auto done =
      maps_.conntrack.visit([&](const sluice_ct_key& key, const sluice_ct_entry& entry) -> Result<void> {
        ++left;
        if (!over(key, entry, now)) return {};
        // The programs may have begun the connection anew since the table was read.
        auto again = maps_.conntrack.lookup(key);
        if (!again) return tl::unexpected(again.error());
        if (*again && !over(key, **again, now)) return {};
        auto erased = maps_.conntrack.erase(key);
        if (!erased) return tl::unexpected(erased.error());
        --left;
        if (*erased) ++removed;
        return {};
      });
  if (!done) return done;
  const std::lock_guard lock(mutex_);
  status_.entries = left;
  status_.expired_total += removed;
  return {};
}

Result<void> ConntrackGc::forget(const Gone& gone) {
  if (gone.empty()) return {};
  return maps_.conntrack.visit([&](const sluice_ct_key& key, const sluice_ct_entry& entry) -> Result<void> {
    if (key.proto != IPPROTO_UDP || !(entry.nat.flags & SLUICE_CT_FRONT)) return {};
    const service::Backend backend{Address::from_abi(entry.nat.addr), ntohs(entry.nat.port_be)};
    for (const int end : {0, 1}) {  // one of them is the Service
      const auto found =
          gone.find({Address::from_abi(key.addr[end]), model::Protocol::kUdp, ntohs(key.port_be[end])});
      if (found == gone.end() || !found->second.contains(backend)) continue;
      auto erased = maps_.conntrack.erase(key);
      return erased ? Result<void>{} : tl::unexpected(erased.error());
    }
    return {};
  });
}

ConntrackStatus ConntrackGc::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace sluice::datapath
