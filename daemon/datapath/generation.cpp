// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/generation.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/fault_point.h"
#include "firewall.skel.h"

namespace sluice::datapath {

namespace {

using Policies = std::map<std::uint32_t, policy::EndpointPolicy>;

sluice_policy abi_of(const policy::EndpointPolicy& policy) {
  sluice_policy value{};
  value.flags = SLUICE_POLICY_VALID;
  if (policy.isolated_ingress) value.flags |= SLUICE_POLICY_ISOLATED_INGRESS;
  if (policy.isolated_egress) value.flags |= SLUICE_POLICY_ISOLATED_EGRESS;
  for (const auto direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
    value.table[direction] = policy.table[direction];
    value.ports[direction] = policy.ports[direction];
    auto* run = value.port_runs[direction];
    for (const auto& each : policy.port_runs[direction])
      *run++ = {static_cast<std::uint32_t>(each.protocol << 16 | each.first),
                static_cast<std::uint16_t>(each.last - each.first),
                static_cast<std::uint16_t>(each.port_class)};
  }
  if (policy.peer_class) value.own = {*policy.peer_class, ~*policy.peer_class};
  return value;
}

bool known_id(std::uint32_t id) { return id > 0 && id < SLUICE_MAX_ENDPOINTS; }

std::string describe(const sluice_probe& probe) {
  return fmt::format("protocol {} from {} port {} (endpoint {}) to {} port {} (endpoint {}){}", probe.proto,
                     Address::from_abi(probe.src).to_string(), ntohs(probe.sport_be), probe.src_endpoint,
                     Address::from_abi(probe.dst).to_string(), ntohs(probe.dport_be), probe.dst_endpoint,
                     probe.reply != 0 ? ", a reply" : "");
}

// The candidate's verdict as SLUICE_PROBE_RESULT + enum sluice_drop_reason, or 0.
Result<std::uint32_t> run_probe(const Program& probe, sluice_probe input) {
  input.module = SLUICE_MODULE_CANDIDATE;
  return run_program(probe, std::as_writable_bytes(std::span(&input, 1)), "run the candidate generation");
}

}  // namespace

Features Features::of(const policy::Ruleset& ruleset) {
  Features features;
  features.blocks = !ruleset.blocks.empty();
  features.default_rows = std::ranges::any_of(
      ruleset.rows, [](const auto& row) { return row.first.peer_class == SLUICE_NO_CLASS; });
  for (const auto& [id, policy] : ruleset.endpoints) {
    for (const auto direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
      features.ports |= !policy.port_runs[direction].empty();
      features.port_tables |= policy.ports[direction] != 0;
    }
  }
  return features;
}

Result<Generation> Generation::load(const ObjectOptions& options, std::uint32_t number,
                                    const Features& features, const RawMap& peers) {
  auto object = Object<firewall_bpf>::open(options);
  if (!object) return tl::unexpected(object.error());
  auto* constants = (*object)->rodata;
  constants->generation_number = number;
  constants->generation_slot = slot_of(number);
  constants->uses_blocks = features.blocks;
  constants->uses_ports = features.ports;
  constants->uses_port_tables = features.port_tables;
  constants->uses_default_rows = features.default_rows;
  if (const int code = bpf_map__reuse_fd((*object)->maps.peers, peers.fd()); code < 0)
    return failure_errno(code, "take map peers");
  if (auto done = object->load(); !done) return tl::unexpected(done.error());

  // The object closes its own fds when it goes out of scope.
  const auto own = [](int fd) { return Fd(fcntl(fd, F_DUPFD_CLOEXEC, 0)); };
  Generation made;
  made.number_ = number;
  made.features_ = features;
  made.program_.fd = own(bpf_program__fd((*object)->progs.firewall));
  if (!made.program_.fd) return failure_errno(errno, "keep the firewall program");
  bpf_prog_info info{};
  std::uint32_t length = sizeof info;
  if (const int code = bpf_obj_get_info_by_fd(made.program_.fd.get(), &info, &length); code < 0)
    return failure_errno(code, "ask the kernel about the firewall program");
  made.program_.id = info.id;
  auto policies =
      RawMap::adopt(own(bpf_map__fd((*object)->maps.generation)), decltype(made.policies_)::kShape);
  if (!policies) return tl::unexpected(policies.error());
  made.policies_ = Map<std::uint32_t, sluice_policy>(std::move(*policies));
  return made;
}

Result<void> Generation::pin(const Pins& pins) const {
  if (auto done = pins.make_generation(number_); !done) return done;
  SLUICE_FAILURE_POINT("generation.folder_made");
  if (auto done = Pins::put(program_.fd.get(), pins.generation_program(number_)); !done) return done;
  SLUICE_FAILURE_POINT("generation.program_pinned");
  return Pins::put(policies_.raw().fd(), pins.generation_policies(number_));
}

Result<void> Generation::fill(const Policies& endpoints) const {
  return change({}, endpoints).map([](bool) {});
}

Result<bool> Generation::change(const Policies& before, const Policies& after) const {
  std::vector<std::uint32_t> ids;
  std::vector<sluice_policy> values;
  const auto set = [&](std::uint32_t id, const sluice_policy& value) {
    ids.push_back(id);
    values.push_back(value);
  };
  for (const auto& [id, policy] : after) {
    if (!known_id(id)) return failure("endpoint id {} is not within 1 to {}", id, SLUICE_MAX_ENDPOINTS - 1);
    const auto old = before.find(id);
    if (old == before.end() || !(old->second == policy)) set(id, abi_of(policy));
  }
  for (const auto& [id, policy] : before)
    if (!after.contains(id)) set(id, sluice_policy{});
  if (auto done = policies_.update(ids, values); !done) return tl::unexpected(done.error());
  return !ids.empty();
}

Result<void> Generation::audit(const Policies& endpoints, std::vector<std::string>& differences) const {
  auto entries = policies_.entries();
  if (!entries) return tl::unexpected(entries.error());
  for (const auto& [id, value] : *entries) {
    const auto wanted = endpoints.find(id);
    const auto policy = wanted != endpoints.end() ? abi_of(wanted->second) : sluice_policy{};
    if (std::memcmp(&value, &policy, sizeof value) != 0)
      differences.push_back(fmt::format("generation {}: the rules of endpoint {} differ", number_, id));
  }
  return {};
}

Result<void> check_candidate(const Program& probe, const CheckPackets& packets) {
  // Before Linux 6.11 a packet on the same CPU may come between a test run's steps and use the per-CPU
  // context.
  constexpr int kTries = 3;
  for (const auto& packet : packets) {
    const std::uint32_t expected = SLUICE_PROBE_RESULT + packet.expected;
    std::uint32_t got = 0;
    for (int tries = 0; tries < kTries && got != expected; ++tries) {
      auto result = run_probe(probe, packet.probe);
      if (!result) return tl::unexpected(result.error());
      got = *result;
    }
    if (got == expected) continue;
    if (got < SLUICE_PROBE_RESULT)
      return failure("the candidate generation did not answer for {}", describe(packet.probe));
    return failure(
        "the candidate generation disagrees with the policies' definition on {}: it says {}, the definition "
        "says {}",
        describe(packet.probe), drop_reason_name(got - SLUICE_PROBE_RESULT),
        drop_reason_name(packet.expected));
  }
  SLUICE_FAILURE_POINT("generation.checked");
  return {};
}

}  // namespace sluice::datapath
