// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/frame.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>

namespace sluice::bpftest {
namespace {

std::map<std::string, Bytes>& names() {
  static std::map<std::string, Bytes> known{{"podA", {0x02, 0x53, 10, 1, 0, 2}},
                                            {"podB", {0x02, 0x53, 10, 1, 0, 3}},
                                            {"gateway", {0x02, 0x53, 10, 1, 0, 1}},
                                            {"all", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}};
  return known;
}

void put16(Bytes& bytes, std::size_t at, unsigned value) {
  bytes[at] = static_cast<std::uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<std::uint8_t>(value);
}

unsigned get16(const Bytes& bytes, std::size_t at) { return bytes[at] << 8 | bytes[at + 1]; }

void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }

void append_address(Bytes& to, const std::string& text) {
  const std::uint32_t address = ipv4_be(text);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&address);
  to.insert(to.end(), bytes, bytes + 4);
}

// Sum of RFC 1071, not yet inverted: 0xffff over data that has its right checksum inside.
unsigned sum(const std::uint8_t* data, std::size_t size, unsigned start = 0) {
  std::uint64_t total = start;
  for (std::size_t i = 0; i < size; ++i) total += i % 2 ? data[i] : static_cast<unsigned>(data[i]) << 8;
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return static_cast<unsigned>(total);
}

unsigned pseudo_sum(const Bytes& ip, std::size_t l4_size) {
  return sum(&ip[12], 8, static_cast<unsigned>(ip[9] + l4_size));
}

bool has_pseudo(std::uint8_t proto) { return proto == IPPROTO_TCP || proto == IPPROTO_UDP; }

std::size_t checksum_at(std::uint8_t proto) {
  return proto == IPPROTO_TCP ? 16 : proto == IPPROTO_UDP ? 6 : 2;
}

Bytes l4_of(const Frame& frame) {
  Bytes l4;
  if (frame.offset) return Bytes(frame.payload, 0x5a);
  switch (frame.proto) {
    case IPPROTO_TCP: {
      l4.resize(20);
      l4[12] = 5 << 4;
      for (const char flag : frame.flags)
        l4[13] = static_cast<std::uint8_t>(l4[13] | (flag == 'S'   ? 2
                                                     : flag == 'A' ? 16
                                                     : flag == 'F' ? 1
                                                                   : 4));
      break;
    }
    case IPPROTO_UDP:
      l4.resize(8);
      put16(l4, 4, 8 + frame.payload);
      break;
    case IPPROTO_ICMP:
      l4.resize(8);
      l4[0] = frame.icmp;
      if (frame.quoted.empty()) put16(l4, 4, frame.sport);
      append(l4, frame.quoted);
      break;
    case IPPROTO_SCTP:
      l4.resize(12);
      break;
    default:
      break;
  }
  if (has_pseudo(frame.proto) || frame.proto == IPPROTO_SCTP) {
    put16(l4, 0, frame.sport);
    put16(l4, 2, frame.dport);
  }
  if (frame.quoted.empty())
    for (unsigned i = 0; i < frame.payload; ++i) l4.push_back(static_cast<std::uint8_t>('a' + i % 26));
  return l4;
}

std::string address_text(const Bytes& bytes, std::size_t at) {
  return fmt::format("{}.{}.{}.{}", bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
}

std::string mac_text(const Bytes& bytes, std::size_t at) {
  const Bytes mac(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                  bytes.begin() + static_cast<std::ptrdiff_t>(at) + 6);
  for (const auto& [name, known] : names())
    if (known == mac) return name;
  return fmt::format("{:02x}", fmt::join(mac, ":"));
}

std::string flags_text(std::uint8_t flags) {
  std::string text;
  if (flags & 2) text += 'S';
  if (flags & 16) text += 'A';
  if (flags & 1) text += 'F';
  if (flags & 4) text += 'R';
  return text.empty() ? "-" : text;
}

std::string describe_ip(const Bytes& ip, bool quoted);

std::string describe_icmp(const Bytes& l4) {
  if (l4[0] == kEcho) return fmt::format("echo id {}", get16(l4, 4));
  if (l4[0] == kEchoReply) return fmt::format("echo reply id {}", get16(l4, 4));
  return fmt::format("icmp {} about [{}]", l4[0], describe_ip(Bytes(l4.begin() + 8, l4.end()), true));
}

std::string l4_checksum_text(const Bytes& ip, const Bytes& l4, bool quoted) {
  const std::uint8_t proto = ip[9];
  // A quoted TCP header need not have its checksum, so translation leaves that alone.
  if (!(has_pseudo(proto) || proto == IPPROTO_ICMP) || (quoted && proto == IPPROTO_TCP)) return "";
  if (quoted && (ip[0] & 15U) * 4U + l4.size() < get16(ip, 2)) return "";  // not all of it is quoted
  if (proto == IPPROTO_UDP && !get16(l4, 6)) return " no-checksum";
  const unsigned start = has_pseudo(proto) ? pseudo_sum(ip, l4.size()) : 0;
  return sum(l4.data(), l4.size(), start) == 0xffff ? "" : " BAD-L4-CHECKSUM";
}

// Are all the bytes there that describe_ip() looks at?
bool is_whole(const Bytes& ip) {
  if (ip.size() < 20) return false;
  const std::size_t header = (ip[0] & 15U) * 4U;
  const bool later = get16(ip, 6) & 0x1fff;
  const std::size_t l4 = later                                        ? 0
                         : ip[9] == IPPROTO_TCP                       ? 20
                         : has_pseudo(ip[9]) || ip[9] == IPPROTO_ICMP ? 8
                                                                      : 0;
  return header >= 20 &&
         ip.size() >= header + std::max<std::size_t>(l4, ip[9] == IPPROTO_SCTP && !later ? 4 : 0);
}

std::string describe_ip(const Bytes& ip, bool quoted) {
  if (!is_whole(ip)) return "not whole";
  const std::size_t header = (ip[0] & 15U) * 4U;
  const unsigned fragment = get16(ip, 6);
  const Bytes l4(ip.begin() + static_cast<std::ptrdiff_t>(header), ip.end());
  std::string source = address_text(ip, 12);
  std::string destination = address_text(ip, 16);
  std::string rest;
  if (fragment & 0x1fff) {
    rest = fmt::format("fragment at {}", (fragment & 0x1fff) * 8);
  } else if (ip[9] == IPPROTO_ICMP) {
    rest = describe_icmp(l4);
  } else if (has_pseudo(ip[9]) || ip[9] == IPPROTO_SCTP) {
    source += fmt::format(":{}", get16(l4, 0));
    destination += fmt::format(":{}", get16(l4, 2));
    rest = ip[9] == IPPROTO_TCP ? "tcp " + flags_text(l4[13]) : ip[9] == IPPROTO_UDP ? "udp" : "sctp";
  } else {
    rest = fmt::format("protocol {}", ip[9]);
  }
  if (!(fragment & 0x1fff)) rest += l4_checksum_text(ip, l4, quoted);
  if (sum(ip.data(), header) != 0xffff) rest += " BAD-IP-CHECKSUM";
  return fmt::format("{}>{} {}{}", source, destination, rest, quoted ? "" : fmt::format(" ttl {}", ip[8]));
}

}  // namespace

Bytes mac_of(const std::string& name) {
  const auto found = names().find(name);
  if (found != names().end()) return found->second;
  Bytes mac;
  for (std::size_t at = 0; at + 1 < name.size(); at += 3)
    mac.push_back(static_cast<std::uint8_t>(std::stoul(name.substr(at, 2), nullptr, 16)));
  if (mac.size() != 6) throw std::invalid_argument("no MAC address: " + name);
  return mac;
}

void name_mac(const std::string& name, const Bytes& mac) { names()[name] = mac; }

std::uint32_t ipv4_be(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1)
    throw std::invalid_argument("no IPv4 address: " + text);
  return address.s_addr;
}

Bytes packet(const Frame& frame) {
  Bytes l4 = l4_of(frame);
  const std::size_t header = 20 + frame.options * 4;
  Bytes ip(12);
  ip[0] = static_cast<std::uint8_t>(0x40 | header / 4);
  put16(ip, 2, static_cast<unsigned>(header + l4.size()));
  put16(ip, 4, frame.id);
  put16(ip, 6, frame.offset / 8 | (frame.more ? 0x2000 : 0));
  ip[8] = frame.ttl;
  ip[9] = frame.proto;
  append_address(ip, frame.src);
  append_address(ip, frame.dst);
  ip.resize(header, 1);  // option 1: no operation
  put16(ip, 10, ~sum(ip.data(), ip.size()) & 0xffff);
  if (!frame.offset && (has_pseudo(frame.proto) || frame.proto == IPPROTO_ICMP) && frame.checksum) {
    const unsigned start = has_pseudo(frame.proto) ? pseudo_sum(ip, l4.size()) : 0;
    const unsigned check = ~sum(l4.data(), l4.size(), start) & 0xffff;
    put16(l4, checksum_at(frame.proto), check ? check : 0xffff);
  }
  append(ip, l4);
  return ip;
}

Bytes build(const Frame& frame) {
  Bytes bytes = mac_of(frame.to);
  append(bytes, mac_of(frame.from));
  append(bytes, {kIpv4 >> 8, kIpv4 & 0xff});
  append(bytes, packet(frame));
  return bytes;
}

Bytes build(const Arp& arp) {
  Bytes bytes = mac_of(arp.to);
  append(bytes, mac_of(arp.from));
  append(bytes, {kArp >> 8, kArp & 0xff, 0, 1, kIpv4 >> 8, kIpv4 & 0xff, 6, arp.address_length, 0,
                 static_cast<std::uint8_t>(arp.operation)});
  append(bytes, mac_of(arp.sender_mac));
  append_address(bytes, arp.sender_ip);
  append(bytes, Bytes(6));
  append_address(bytes, arp.target_ip);
  return bytes;
}

std::string describe(const Bytes& bytes) {
  if (bytes.size() < 14) return "short";
  const std::string macs = mac_text(bytes, 6) + ">" + mac_text(bytes, 0);
  const unsigned type = get16(bytes, 12);
  if (type == kArp && bytes.size() >= 42)
    return fmt::format("{} arp {} {} at {} for {} at {}", macs, get16(bytes, 20), address_text(bytes, 28),
                       mac_text(bytes, 22), address_text(bytes, 38), mac_text(bytes, 32));
  if (type == kIpv4) return macs + " " + describe_ip(Bytes(bytes.begin() + 14, bytes.end()), false);
  return fmt::format("{} type {:#x}", macs, type);
}

}  // namespace sluice::bpftest
