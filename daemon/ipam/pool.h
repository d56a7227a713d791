// SPDX-License-Identifier: Apache-2.0
// Which addresses and endpoint ids are free, and which one is next. No I/O.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/address.h"

namespace sluice::ipam {

class Pool {
 public:
  // IPv6 prefixes, prefixes inside another and those without room for a pod (/31, /32) are left out.
  void set_cidrs(std::vector<Prefix> cidrs);
  [[nodiscard]] const std::vector<Prefix>& cidrs() const { return cidrs_; }
  [[nodiscard]] std::size_t capacity() const;
  [[nodiscard]] std::size_t held_in_cidrs() const;
  [[nodiscard]] std::size_t endpoints_held() const { return endpoints_.size(); }

  using Clock = std::chrono::steady_clock;
  // An address that was given back is nobody's for this long: late answers and connections of the pod that
  // had it must not reach the next one.
  static constexpr std::chrono::seconds kRest{60};

  // The next free one after the cursor, going round, that has rested; if there is none, the one that has
  // rested for longest. None: nothing free.
  [[nodiscard]] std::optional<Address> next_address(Clock::time_point now) const;
  [[nodiscard]] std::optional<std::uint32_t> next_endpoint() const;

  void take(std::uint32_t endpoint, const Address& ipv4);  // 0 and none are ignored
  // Gives back all that none of `endpoints` and `addresses` names; the cursor stays.
  void keep(const std::set<std::uint32_t>& endpoints, const std::set<Address>& addresses,
            Clock::time_point now);
  [[nodiscard]] bool endpoint_taken(std::uint32_t endpoint) const { return endpoints_.contains(endpoint); }
  [[nodiscard]] bool address_taken(const Address& ipv4) const { return addresses_.contains(ipv4); }

  // The last one given out.
  struct Cursor {
    std::uint32_t endpoint = 0;
    Address ipv4;
  };
  void set_cursor(const Cursor& cursor) { cursor_ = cursor; }
  [[nodiscard]] const Cursor& cursor() const { return cursor_; }

 private:
  std::vector<Prefix> cidrs_;
  std::set<std::uint32_t> endpoints_;
  std::set<Address> addresses_;
  std::map<Address, Clock::time_point> resting_;  // since when
  Cursor cursor_;
};

}  // namespace sluice::ipam
