// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

#include "daemon/datapath/conntrack_table.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/shared_array.h"
#include "daemon/datapath/udp_services.h"
#include "daemon/service/table.h"

namespace sluice::datapath {

// Entries for a machine with so much memory: one for each 32 KiB of it, of which an entry takes 128 bytes,
// within SLUICE_CONNTRACK_MIN and _MAX.
[[nodiscard]] std::uint32_t conntrack_size(std::uint64_t memory_bytes);

// User space's part in the life of connections. The programs make and renew entries; that one has outlived
// its idle lifetime they notice when its tuple comes again, or where the table is crowded. Thread-safe, but
// for collect(), which one thread calls.
class Conntrack {
 public:
  using Use = SharedArray<std::int64_t>;  // map "conntrack_use"
  using Secret = std::array<__u64, std::extent_v<decltype(sluice_config::conntrack_secret)>>;
  Conntrack(ConntrackTable table, Use use, const Secret& secret)
      : table_(table), use_(std::move(use)), secret_(secret) {}

  // Removes what outlived its lifetime, what pods that are gone have left and what the last serve() would,
  // and puts the counters of owners right. Of a table that is empty by its counter, it looks once a minute
  // whether that is so.
  [[nodiscard]] Result<void> collect();
  // Ends the UDP connections that do not lead where these Services lead them. None: not known yet.
  [[nodiscard]] Result<void> serve(std::shared_ptr<const UdpServices> services);
  // The pod with the address is gone for good: no entry is made for it any more. collect() removes those that
  // there are, again and again if whoever knew the pod keeps them alive.
  void pod_gone(const Address& address);
  // Of the masquerade addresses that living connections have.
  [[nodiscard]] Result<std::set<std::uint8_t>> masquerade_numbers() const;
  // Before the number of a masquerade address becomes another address's.
  [[nodiscard]] Result<void> end_masqueraded(std::uint8_t number) const;
  // Before another pod gets the address: it inherits no entry, neither of connections that the pod before it
  // opened, nor of others' to that one, nor what the outside sees of them.
  [[nodiscard]] Result<void> give(const Address& address);
  // The same for what a daemon before this one knew to be gone: addresses of the podCIDRs that are no pod's.
  [[nodiscard]] Result<void> forget_strangers(const std::vector<Prefix>& pod_cidrs,
                                              const std::set<Address>& others);

  [[nodiscard]] ConntrackStatus status() const;
  [[nodiscard]] Result<Connections> list(const ConnectionFilter& filter, std::size_t most) const;
  // Connections to Services that there are, as of the last collect().
  using Served = Datapath::Served;
  [[nodiscard]] Served served() const;
  // How many connections it ended.
  [[nodiscard]] Result<std::uint64_t> flush(const ConnectionFilter& filter) const;

 private:
  [[nodiscard]] std::vector<std::int64_t> uses() const;
  [[nodiscard]] bool belongs_together(const ConntrackTable::Found& found) const;
  void correct(const std::vector<std::int64_t>& before, const std::vector<std::int64_t>& counted) const;

  ConntrackTable table_;
  Use use_;
  Secret secret_;
  mutable std::mutex mutex_;
  std::map<Address, std::uint64_t> gone_pods_;  // address -> since when it is no pod's, CLOCK_MONOTONIC ns
  std::uint64_t expired_total_ = 0;
  Served served_;
  std::shared_ptr<const UdpServices> services_;
  std::optional<std::chrono::steady_clock::time_point> collected_at_;
};

}  // namespace sluice::datapath
