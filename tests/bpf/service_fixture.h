// SPDX-License-Identifier: Apache-2.0
// The world with Services.
#pragma once

#include <fmt/format.h>

#include "tests/bpf/world.h"

namespace sluice::bpftest {

inline const std::string kService = "10.96.0.10";
inline constexpr std::uint16_t kPort = 80, kTarget = 8080, kNodePort = 30080;

struct End {
  std::string address;
  std::uint16_t port = kTarget;
};

class Service : public World {
 protected:
  // Serves address:port by these, in the order of the slots.
  void serve(const std::string& address, std::uint16_t port, const std::vector<End>& backends,
             std::uint32_t flags = 0, std::uint8_t scope = SLUICE_SCOPE_INSIDE,
             const std::vector<std::uint8_t>& protocols = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP},
             std::uint64_t sources = 0) {
    sluice_service service{};
    service.sources = sources;
    service.first = next_slot_;
    service.count = static_cast<std::uint32_t>(backends.size());
    service.flags = flags;
    for (const auto& backend : backends) {
      sluice_backend value{};
      value.addr = bpftest::address(backend.address);
      value.port_be = htons(backend.port);
      put("backends", ++last_backend_, value);
      put("service_slots", next_slot_++, last_backend_);
    }
    for (const auto proto : protocols) {
      sluice_service_key key{};
      key.addr = bpftest::address(address);
      key.port_be = htons(port);
      key.proto = proto;
      key.scope = scope;
      service.seal = sluice_service_seal(&key, &service);
      put("services", key, service);
    }
  }
  // Lets the clients of the prefix (bits of 32) use the Services with these sources.
  void allow_source(std::uint64_t sources, const std::string& ipv4, unsigned length) {
    sluice_source_key key{};
    key.prefix_len = SLUICE_SOURCE_SET_BITS + SLUICE_V4_PREFIX_BITS + length;
    key.sources[0] = static_cast<std::uint32_t>(sources);
    key.sources[1] = static_cast<std::uint32_t>(sources >> 32);
    key.addr = address(ipv4);
    put("service_sources", key, std::uint32_t{0});
  }
  static Frame out(std::uint8_t proto, const std::string& flags = "S") {
    return {
        .src = "10.1.0.2", .dst = kService, .proto = proto, .sport = 4000, .dport = kPort, .flags = flags};
  }
  static Frame direct(std::uint8_t proto, const std::string& flags = "S") {
    return {.to = "podB",
            .src = "10.1.0.2",
            .dst = "10.1.0.3",
            .proto = proto,
            .sport = 4000,
            .dport = kTarget,
            .flags = flags};
  }
  // podB's answer to what it saw.
  static Frame answer(std::uint8_t proto, std::uint16_t port = 4000, const std::string& flags = "SA") {
    return {.from = "podB",
            .to = "podA",
            .src = "10.1.0.3",
            .dst = "10.1.0.2",
            .proto = proto,
            .sport = kTarget,
            .dport = port,
            .flags = flags};
  }
  static Frame from_world(std::uint16_t port, const std::string& flags = "S") {
    return {.from = "02:00:00:00:00:99",
            .to = "uplink",
            .src = "198.51.100.7",
            .dst = "192.0.2.1",
            .proto = IPPROTO_TCP,
            .sport = 443,
            .dport = port,
            .flags = flags};
  }
  static std::uint16_t source_port(const std::string& described) {
    const auto colon = described.find(':');
    return static_cast<std::uint16_t>(std::stoi(described.substr(colon + 1)));
  }

 private:
  std::uint32_t next_slot_ = 0, last_backend_ = 0;
};

}  // namespace sluice::bpftest
