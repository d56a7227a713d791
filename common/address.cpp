// SPDX-License-Identifier: Apache-2.0
#include "common/address.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>
#include <optional>

namespace sluice {

namespace {

constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// Leading zeros say nothing, as to the API server: 192.0.002.0 is 192.0.2.0. inet_pton() knows no such
// octets.
std::string without_leading_zeros(std::string_view dotted) {
  std::string text;
  bool leading = true;  // of an octet
  for (std::size_t i = 0; i < dotted.size(); ++i) {
    const bool digit_follows = i + 1 < dotted.size() && dotted[i + 1] >= '0' && dotted[i + 1] <= '9';
    if (leading && dotted[i] == '0' && digit_follows) continue;
    leading = dotted[i] == '.';
    text += dotted[i];
  }
  return text;
}

// "192.0.2.1"; zeros in front of an octet as above.
std::optional<std::uint32_t> parse_v4(std::string_view text) {
  std::uint32_t address = 0;
  for (int octet = 0; octet < 4; ++octet) {
    if (octet > 0) {
      if (text.empty() || text.front() != '.') return std::nullopt;
      text.remove_prefix(1);
    }
    std::uint32_t value = 0;
    std::size_t digits = 0;
    for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
      value = value * 10 + static_cast<std::uint32_t>(text[digits] - '0');
      if (value > 255) return std::nullopt;
    }
    if (digits == 0) return std::nullopt;
    text.remove_prefix(digits);
    address = address << 8 | value;
  }
  return text.empty() ? std::optional(address) : std::nullopt;
}

}  // namespace

Result<Address> Address::parse(std::string_view text) {
  if (const auto v4 = parse_v4(text)) return from_v4(*v4);
  const auto dotted = text.find('.') == std::string_view::npos ? text.size() : text.rfind(':') + 1;
  const auto copy = std::string(text.substr(0, dotted)) + without_leading_zeros(text.substr(dotted));
  Address address;
  if (copy.find('\0') == std::string::npos && inet_pton(AF_INET6, copy.c_str(), address.bytes_.data()) == 1)
    return address;
  return failure("'{}' is not an IP address", text);
}

Address Address::from_v4_be(std::uint32_t address_be) {
  Address address;
  std::memcpy(address.bytes_.data(), kMapped.data(), kMapped.size());
  std::memcpy(address.bytes_.data() + 12, &address_be, 4);
  return address;
}

Address Address::from_v4(std::uint32_t address) { return from_v4_be(htonl(address)); }

Address Address::from_abi(const sluice_addr& other) {
  Address address;
  std::memcpy(address.bytes_.data(), other.bytes, 16);
  return address;
}

bool Address::is_v4() const { return std::memcmp(bytes_.data(), kMapped.data(), kMapped.size()) == 0; }

bool Address::is_none() const { return *this == Address(); }

std::uint32_t Address::v4_be() const {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes_.data() + 12, 4);
  return value;
}

std::uint32_t Address::v4() const { return ntohl(v4_be()); }

sluice_addr Address::abi() const {
  sluice_addr address{};
  std::memcpy(address.bytes, bytes_.data(), 16);
  return address;
}

std::string Address::to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (is_v4()) {
    inet_ntop(AF_INET, bytes_.data() + 12, text, sizeof text);
  } else {
    inet_ntop(AF_INET6, bytes_.data(), text, sizeof text);
  }
  return text;
}

Prefix::Prefix(const Address& address, unsigned bits_of_128) : address_(address), bits_(bits_of_128) {
  auto& bytes = address_.bytes();
  for (unsigned i = 0; i < 16; ++i) {
    const unsigned begin = i * 8;
    if (begin >= bits_) {
      bytes[i] = 0;
    } else if (begin + 8 > bits_) {
      bytes[i] = static_cast<std::uint8_t>(bytes[i] & (0xff << (8 - (bits_ - begin))));
    }
  }
}

Result<Prefix> Prefix::parse(std::string_view text) {
  const auto slash = text.find('/');
  auto address = Address::parse(text.substr(0, slash));
  if (!address) return failure("'{}' is not a CIDR such as 10.0.0.0/8 or fd00::/64", text);
  // In ::ffff:192.0.2.0/120 the length counts 128 bits though the address is an IPv4 one.
  const bool of_32_bits = address->is_v4() && text.substr(0, slash).find(':') == std::string_view::npos;
  const unsigned most = of_32_bits ? 32 : 128;
  unsigned length = most;
  if (slash != std::string_view::npos) {
    const auto digits = text.substr(slash + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (error != std::errc() || end != digits.data() + digits.size() || length > most)
      return failure("'{}' has no prefix length from 0 to {}", text, most);
  }
  return Prefix(*address, of_32_bits ? length + SLUICE_V4_PREFIX_BITS : length);
}

unsigned Prefix::length() const { return is_v4() ? bits_ - SLUICE_V4_PREFIX_BITS : bits_; }

bool Prefix::contains(const Address& address) const {
  const unsigned whole = bits_ / 8, rest = bits_ % 8;
  const auto &own = address_.bytes(), &other = address.bytes();
  return std::memcmp(own.data(), other.data(), whole) == 0 &&
         (rest == 0 || (own[whole] ^ other[whole]) >> (8 - rest) == 0);
}

bool Prefix::contains(const Prefix& other) const { return other.bits_ >= bits_ && contains(other.address_); }

sluice_route_key Prefix::abi() const { return {bits_, address_.abi()}; }

std::string Prefix::to_string() const { return fmt::format("{}/{}", address_.to_string(), length()); }

Result<Mac> Mac::parse(std::string_view text) {
  std::array<std::uint8_t, 6> bytes{};
  bool good = text.size() == 17;
  for (std::size_t i = 0; good && i < 6; ++i) {
    const char* begin = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(begin, begin + 2, bytes[i], 16);
    good = error == std::errc() && end == begin + 2 && (i == 5 || *end == ':');
  }
  if (!good) return failure("'{}' is not a MAC address", text);
  return Mac(bytes);
}

Mac Mac::of_pod(const Address& ipv4) {
  const auto& b = ipv4.bytes();
  return Mac({0x02, 0x53, b[12], b[13], b[14], b[15]});
}

std::string Mac::to_string() const {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes_[0], bytes_[1], bytes_[2], bytes_[3],
                     bytes_[4], bytes_[5]);
}

}  // namespace sluice

std::size_t std::hash<sluice::Address>::operator()(const sluice::Address& address) const noexcept {
  return std::hash<std::string_view>()(
      std::string_view(reinterpret_cast<const char*>(address.bytes().data()), address.bytes().size()));
}
