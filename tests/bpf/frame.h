// SPDX-License-Identifier: Apache-2.0
// Frames of the tests: built from a description, and described again in one line, with every checksum
// checked.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::bpftest {

using Bytes = std::vector<std::uint8_t>;

enum : std::uint16_t { kIpv4 = 0x0800, kArp = 0x0806, kIpv6 = 0x86dd };
enum : std::uint8_t { kEchoReply = 0, kUnreachable = 3, kEcho = 8, kTimeExceeded = 11, kTimestamp = 13 };

struct Frame {
  std::string from = "podA";  // MAC addresses: a name of mac_of() or six bytes
  std::string to = "gateway";
  std::string src = {};
  std::string dst = {};
  std::uint8_t proto = IPPROTO_UDP;
  std::uint16_t sport = 0;  // ICMP echo: the identifier
  std::uint16_t dport = 0;
  std::string flags = {};  // TCP: of "SAFR"
  std::uint8_t ttl = 64;
  std::uint16_t id = 1;
  unsigned offset = 0;  // of the fragment, in bytes
  bool more = false;    // more fragments follow
  std::uint8_t icmp = kEcho;
  Bytes quoted = {};     // an ICMP error's: the IPv4 packet it is about
  bool checksum = true;  // false: UDP without one
  unsigned options = 0;  // words of IPv4 options
  unsigned payload = 9;  // odd: checksums have a half word at the end
};

// "podA", "podB", "gateway", "uplink" (as announced by name_mac), "all" (broadcast), or "02:…".
[[nodiscard]] Bytes mac_of(const std::string& name);
void name_mac(const std::string& name, const Bytes& mac);
[[nodiscard]] std::uint32_t ipv4_be(const std::string& text);

// `frame`, changed.
template <typename Change>
[[nodiscard]] Frame but(Frame frame, const Change& change) {
  change(frame);
  return frame;
}

[[nodiscard]] Bytes build(const Frame& frame);
[[nodiscard]] Bytes packet(const Frame& frame);  // the same without its Ethernet header
struct Arp {
  std::string from = "podA", to = "all";
  std::string sender_mac = "podA", sender_ip = {}, target_ip = {};
  std::uint16_t operation = 1;
  std::uint8_t address_length = 4;
};
[[nodiscard]] Bytes build(const Arp& arp);

// "podA>gateway 10.1.0.2:4000>10.1.0.3:80 tcp S ttl 64"; a wrong checksum is in the text.
[[nodiscard]] std::string describe(const Bytes& bytes);

}  // namespace sluice::bpftest
