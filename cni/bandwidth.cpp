// SPDX-License-Identifier: Apache-2.0
#include "cni/bandwidth.h"

#include <fmt/format.h>
#include <linux/if_ether.h>

#include <cstdint>
#include <limits>

#include "common/json_member.h"
#include "daemon/server/api.h"

namespace sluice::cni {

using nlohmann::json;

namespace {

// What Kubernetes allows in the annotations: 1k to 1P bits a second.
constexpr std::uint64_t kMinRate = 1000, kMaxRate = 1000000000000000;
constexpr std::uint64_t kBitsPerByte = 8;
constexpr std::uint64_t kMaxBurst = std::numeric_limits<std::uint32_t>::max() * kBitsPerByte;

// Absent, null and 0 mean the same: no limit.
Outcome<std::uint64_t> read_bits(const json& bandwidth, const std::string& key) {
  const auto found = find_member(bandwidth, key);
  if (found == bandwidth.end() || found->is_null()) return 0;
  if (found->is_number_unsigned()) return found->get<std::uint64_t>();
  return invalid_config(fmt::format("'runtimeConfig.bandwidth.{}' must be a whole number of bits and not {}",
                                    key, found->dump(-1, ' ', false, json::error_handler_t::replace)));
}

Outcome<std::optional<RateLimit>> read_limit(const json& bandwidth, const std::string& direction) {
  const auto rate_key = direction + "Rate", burst_key = direction + "Burst";
  const auto rate = read_bits(bandwidth, rate_key);
  if (!rate) return tl::unexpected(rate.error());
  const auto burst = read_bits(bandwidth, burst_key);
  if (!burst) return tl::unexpected(burst.error());
  if (*rate == 0 && *burst == 0) return std::nullopt;
  if (*rate == 0 || *burst == 0)
    return invalid_config(fmt::format("'runtimeConfig.bandwidth' has '{}' without '{}'",
                                      *rate != 0 ? rate_key : burst_key, *rate != 0 ? burst_key : rate_key),
                          "a limit needs a rate, in bits a second, and a burst, in bits");
  if (*rate < kMinRate || *rate > kMaxRate)
    return invalid_config(
        fmt::format("'{}' is {} bits a second; {} to {} are possible", rate_key, *rate, kMinRate, kMaxRate));
  if (*burst > kMaxBurst)
    return invalid_config(
        fmt::format("'{}' is {} bits; at most {} (4 GiB) are possible", burst_key, *burst, kMaxBurst));
  return RateLimit{*rate / kBitsPerByte, static_cast<std::uint32_t>(*burst / kBitsPerByte)};
}

}  // namespace

Outcome<Bandwidth> read_bandwidth(const json& document) {
  const auto runtime = document.find("runtimeConfig");
  if (runtime == document.end() || runtime->is_null()) return Bandwidth{};
  if (!runtime->is_object()) return invalid_config("'runtimeConfig' must be an object");
  const auto bandwidth = runtime->find("bandwidth");
  if (bandwidth == runtime->end() || bandwidth->is_null()) return Bandwidth{};
  if (!bandwidth->is_object()) return invalid_config("'runtimeConfig.bandwidth' must be an object");
  const auto ingress = read_limit(*bandwidth, "ingress");
  if (!ingress) return tl::unexpected(ingress.error());
  const auto egress = read_limit(*bandwidth, "egress");
  if (!egress) return tl::unexpected(egress.error());
  return Bandwidth{*ingress, *egress};
}

Outcome<void> check_bursts(const Bandwidth& bandwidth, unsigned mtu) {
  const std::uint32_t packet = mtu + ETH_HLEN;
  for (const auto& [key, limit] :
       {std::pair{"ingressBurst", bandwidth.ingress}, {"egressBurst", bandwidth.egress}})
    if (limit && limit->burst_bytes < packet)
      return invalid_config(
          fmt::format("'{}' is {} bits, less than one packet", key, limit->burst_bytes * kBitsPerByte),
          fmt::format("packets of the network's MTU have {} bits: none of them would pass",
                      packet * kBitsPerByte));
  return {};
}

Result<void> verify_limit(NetlinkSocket& socket, const std::string& link,
                          const std::optional<RateLimit>& limit) {
  if (!limit) return {};
  const auto found = socket.link(link);
  if (!found) return tl::unexpected(found.error());
  const auto qdiscs = socket.qdiscs();
  if (!qdiscs) return tl::unexpected(qdiscs.error());
  for (const auto& qdisc : *qdiscs)
    if (qdisc.link_index == found->index && qdisc.limits_to(*limit)) return {};
  return failure("{} has lost its limit of {} bits a second: its queueing discipline is {}", link,
                 limit->bytes_per_s * kBitsPerByte, found->qdisc);
}

}  // namespace sluice::cni
