// SPDX-License-Identifier: Apache-2.0
// IP addresses, prefixes and MAC addresses as the datapath holds them: 16 bytes in network order, IPv4 as
// IPv4-mapped (RFC 4291, 2.5.5.2).
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "bpf/abi.h"
#include "common/result.h"

namespace sluice {

class Address {
 public:
  Address() = default;  // "::", which stands for "none"
  [[nodiscard]] static Result<Address> parse(std::string_view text);
  [[nodiscard]] static Address from_v4_be(std::uint32_t address_be);
  [[nodiscard]] static Address from_v4(std::uint32_t address);  // host order
  [[nodiscard]] static Address from_abi(const sluice_addr& address);

  [[nodiscard]] bool is_v4() const;
  [[nodiscard]] bool is_none() const;
  [[nodiscard]] std::uint32_t v4_be() const;  // meaningful for IPv4
  [[nodiscard]] std::uint32_t v4() const;     // host order
  [[nodiscard]] sluice_addr abi() const;
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] const std::array<std::uint8_t, 16>& bytes() const { return bytes_; }
  [[nodiscard]] std::array<std::uint8_t, 16>& bytes() { return bytes_; }

  auto operator<=>(const Address&) const = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};
};

// An address and a length. `bits` counts in the 128-bit form (an IPv4 /24 is 120); `length()` is as written.
class Prefix {
 public:
  Prefix() = default;
  Prefix(const Address& address, unsigned bits_of_128);
  // "10.0.0.0/8", "fd00::/64"; a bare address is a host prefix. Host bits are kept out (masked).
  [[nodiscard]] static Result<Prefix> parse(std::string_view text);
  [[nodiscard]] static Prefix host(const Address& address) { return Prefix(address, 128); }

  [[nodiscard]] const Address& address() const { return address_; }
  [[nodiscard]] unsigned bits() const { return bits_; }
  [[nodiscard]] unsigned length() const;
  [[nodiscard]] bool is_v4() const { return address_.is_v4() && bits_ >= SLUICE_V4_PREFIX_BITS; }
  [[nodiscard]] bool contains(const Address& address) const;
  [[nodiscard]] bool contains(const Prefix& other) const;
  [[nodiscard]] sluice_route_key abi() const;  // also the key of peer_blocks
  [[nodiscard]] std::string to_string() const;

  auto operator<=>(const Prefix&) const = default;

 private:
  Address address_;
  unsigned bits_ = 0;
};

class Mac {
 public:
  Mac() = default;
  explicit Mac(const std::array<std::uint8_t, 6>& bytes) : bytes_(bytes) {}
  [[nodiscard]] static Result<Mac> parse(std::string_view text);
  // The MAC address of a pod: locally administered, derived from its IPv4 address, so that an address that is
  // given again keeps its MAC and neighbours' ARP caches stay true. 02:53:<address>.
  [[nodiscard]] static Mac of_pod(const Address& ipv4);
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] const std::array<std::uint8_t, 6>& bytes() const { return bytes_; }
  auto operator<=>(const Mac&) const = default;

 private:
  std::array<std::uint8_t, 6> bytes_{};
};

}  // namespace sluice

template <>
struct std::hash<sluice::Address> {
  std::size_t operator()(const sluice::Address& address) const noexcept;
};
