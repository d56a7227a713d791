// SPDX-License-Identifier: Apache-2.0
// Queueing disciplines: those that links have, and the token bucket that limits what one sends.
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <limits>

#include "common/netlink.h"
#include "common/netlink_request.h"

namespace sluice {

namespace {

constexpr std::uint64_t kQueueMs = 25;  // as the reference plugin `bandwidth` has it
constexpr std::uint32_t kMost = std::numeric_limits<std::uint32_t>::max();

void read_tbf(nlattr* options, Qdisc& qdisc) {
  nlattr* attributes[TCA_TBF_MAX + 1] = {};
  if (nla_parse_nested(attributes, TCA_TBF_MAX, options, nullptr) < 0) return;
  const nlattr* parameters = attributes[TCA_TBF_PARMS];
  if (parameters == nullptr || nla_len(parameters) < static_cast<int>(sizeof(tc_tbf_qopt))) return;
  tc_tbf_qopt value{};
  std::memcpy(&value, nla_data(parameters), sizeof value);
  qdisc.queue_bytes = value.limit;
  const nlattr* rate64 = attributes[TCA_TBF_RATE64];
  qdisc.bytes_per_s = rate64 != nullptr && nla_len(rate64) >= 8 ? nla_get_u64(rate64) : value.rate.rate;
}

std::optional<Qdisc> parse_qdisc(nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWQDISC) return std::nullopt;
  nlattr* attributes[TCA_MAX + 1] = {};
  if (nlmsg_parse(header, sizeof(tcmsg), attributes, TCA_MAX, nullptr) < 0) return std::nullopt;
  const auto* info = static_cast<const tcmsg*>(nlmsg_data(header));
  Qdisc qdisc;
  qdisc.link_index = info->tcm_ifindex;
  qdisc.root = info->tcm_parent == TC_H_ROOT;
  if (attributes[TCA_KIND] != nullptr) qdisc.kind = nla_get_string(attributes[TCA_KIND]);
  if (qdisc.kind == "tbf" && attributes[TCA_OPTIONS] != nullptr) read_tbf(attributes[TCA_OPTIONS], qdisc);
  return qdisc;
}

std::optional<Filter> parse_filter(nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWTFILTER) return std::nullopt;
  nlattr* attributes[TCA_MAX + 1] = {};
  if (nlmsg_parse(header, sizeof(tcmsg), attributes, TCA_MAX, nullptr) < 0) return std::nullopt;
  const auto* info = static_cast<const tcmsg*>(nlmsg_data(header));
  Filter filter;
  filter.egress = info->tcm_parent == TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);
  filter.priority = TC_H_MAJ(info->tcm_info) >> 16U;
  filter.handle = info->tcm_handle;
  const nlattr* kind = attributes[TCA_KIND];
  if (kind != nullptr && std::string_view(nla_get_string(kind)) == "bpf" &&
      attributes[TCA_OPTIONS] != nullptr) {
    const auto* options = attributes[TCA_OPTIONS];
    const auto* name =
        nla_find(static_cast<const nlattr*>(nla_data(options)), nla_len(options), TCA_BPF_NAME);
    if (name != nullptr) filter.program = nla_get_string(name);
  }
  return filter;
}

}  // namespace

std::uint32_t RateLimit::queue_bytes() const {
  const auto waiting = bytes_per_s / 1000 * kQueueMs + bytes_per_s % 1000 * kQueueMs / 1000;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(waiting + burst_bytes, kMost));
}

bool Qdisc::limits_to(const RateLimit& limit) const {
  return root && kind == "tbf" && bytes_per_s == limit.bytes_per_s && queue_bytes == limit.queue_bytes();
}

Result<std::vector<Qdisc>> NetlinkSocket::qdiscs() {
  netlink::Request request(RTM_GETQDISC, NLM_F_DUMP);
  request.header(tcmsg{});
  return netlink::collect<Qdisc>(socket_.get(), request, parse_qdisc, "list the queueing disciplines");
}

Result<std::vector<Filter>> NetlinkSocket::filters(int index) {
  std::vector<Filter> found;
  for (const std::uint32_t side : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
    netlink::Request request(RTM_GETTFILTER, NLM_F_DUMP);
    tcmsg header{};
    header.tcm_ifindex = index;
    header.tcm_parent = TC_H_MAKE(TC_H_CLSACT, side);
    request.header(header);
    auto some = netlink::collect<Filter>(socket_.get(), request, parse_filter,
                                         fmt::format("list the filters of interface number {}", index));
    if (!some) return some;
    found.insert(found.end(), some->begin(), some->end());
  }
  return found;
}

Result<void> NetlinkSocket::limit_rate(int index, const RateLimit& limit) {
  netlink::Request request(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  tcmsg header{};
  header.tcm_ifindex = index;
  header.tcm_parent = TC_H_ROOT;
  header.tcm_handle = TC_H_MAKE(1U << 16, 0U);
  request.header(header);
  tc_tbf_qopt parameters{};
  parameters.rate.rate = static_cast<std::uint32_t>(std::min<std::uint64_t>(limit.bytes_per_s, kMost));
  parameters.rate.linklayer = TC_LINKLAYER_ETHERNET;  // the kernel counts bytes; no table of ours
  parameters.limit = limit.queue_bytes();
  request.put(TCA_KIND, std::string("tbf"));
  request.nest(TCA_OPTIONS, [&] {
    request.put(TCA_TBF_PARMS, {reinterpret_cast<const std::uint8_t*>(&parameters), sizeof parameters});
    request.put(TCA_TBF_BURST, limit.burst_bytes);
    if (limit.bytes_per_s > kMost) request.put(TCA_TBF_RATE64, limit.bytes_per_s);
  });
  return netlink::exchange(
      socket_.get(), request,
      fmt::format("limit interface number {} to {} bytes a second", index, limit.bytes_per_s));
}

}  // namespace sluice
