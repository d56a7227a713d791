// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/check_packets.h"

#include <arpa/inet.h>

#include "daemon/policy/check_packets.h"

namespace sluice::controller {

datapath::CheckPackets check_packets(const policy::Cluster& cluster, const policy::PodAt& pod_at,
                                     const policy::RefusedPolicies& refused, std::uint64_t seed) {
  datapath::CheckPackets packets;
  const auto flows = policy::check_flows(cluster, seed);
  const auto expected = policy::evaluate_all(cluster, flows, pod_at, refused);
  for (std::size_t i = 0; i < flows.size(); ++i) {
    const auto& flow = flows[i];
    datapath::CheckPacket packet;
    packet.probe.src = flow.source.abi();
    packet.probe.dst = flow.destination.abi();
    packet.probe.dport_be = htons(flow.destination_port);
    packet.probe.proto = flow.protocol;
    packet.probe.src_endpoint = flow.source_endpoint;
    packet.probe.dst_endpoint = flow.destination_endpoint;
    packet.expected = expected[i];
    packets.push_back(packet);
  }
  return packets;
}

}  // namespace sluice::controller
