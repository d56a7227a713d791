// SPDX-License-Identifier: Apache-2.0
#include "common/netlink_watch.h"

#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

namespace sluice {

namespace {

constexpr unsigned group_bit(unsigned number) { return 1U << (number - 1); }

bool always(const char*, std::size_t) { return true; }

// Does one of the messages say that a link has another root? Filters and what they hang on (clsact, which
// every pod's link may have) are told to the same listeners.
bool tells_of_a_root(const char* messages, std::size_t length) {
  auto left = static_cast<unsigned>(length);
  for (const auto* each = reinterpret_cast<const nlmsghdr*>(messages); NLMSG_OK(each, left);
       each = NLMSG_NEXT(each, left)) {
    if (each->nlmsg_type != RTM_NEWQDISC && each->nlmsg_type != RTM_DELQDISC) continue;
    if (each->nlmsg_len < NLMSG_LENGTH(sizeof(tcmsg))) continue;
    if (static_cast<const tcmsg*>(NLMSG_DATA(each))->tcm_parent == TC_H_ROOT) return true;
  }
  return false;
}

}  // namespace

Result<std::unique_ptr<NetlinkWatch>> NetlinkWatch::start(const Subject& subject,
                                                          std::function<void()> changed) {
  Fd messages(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, subject.protocol));
  if (!messages) return failure_errno(errno, fmt::format("listen for changes of {}", subject.what));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = subject.groups;
  if (bind(messages.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return failure_errno(errno, fmt::format("listen for changes of {}", subject.what));
  Fd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop) return failure_errno(errno, "eventfd");
  return std::unique_ptr<NetlinkWatch>(
      new NetlinkWatch(std::move(messages), std::move(stop), subject.matters, std::move(changed)));
}

Result<std::unique_ptr<NetlinkWatch>> NetlinkWatch::qdiscs(std::function<void()> changed) {
  return start({NETLINK_ROUTE, group_bit(RTNLGRP_TC), "queueing disciplines", tells_of_a_root},
               std::move(changed));
}

Result<std::unique_ptr<NetlinkWatch>> NetlinkWatch::ipsec(std::function<void()> changed) {
  return start({NETLINK_XFRM, group_bit(XFRMNLGRP_POLICY), "IPsec policies", always}, std::move(changed));
}

Result<std::unique_ptr<NetlinkWatch>> NetlinkWatch::network(std::function<void()> changed) {
  constexpr unsigned kGroups = group_bit(RTNLGRP_LINK) | group_bit(RTNLGRP_IPV4_IFADDR) |
                               group_bit(RTNLGRP_IPV4_ROUTE) | group_bit(RTNLGRP_IPV4_RULE);
  return start({NETLINK_ROUTE, kGroups, "interfaces, addresses and routes", always}, std::move(changed));
}

NetlinkWatch::NetlinkWatch(Fd messages, Fd stop, Matters matters, std::function<void()> changed)
    : messages_(std::move(messages)),
      stop_(std::move(stop)),
      matters_(matters),
      changed_(std::move(changed)),
      thread_([this] { work(); }) {}

NetlinkWatch::~NetlinkWatch() {
  const std::uint64_t one = 1;
  while (write(stop_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
}

// All that wait at once count as one.
bool NetlinkWatch::take_messages() const {
  bool changed = false;
  while (true) {
    alignas(nlmsghdr) std::array<char, 8192> buffer;
    const auto length = recv(messages_.get(), buffer.data(), buffer.size(), 0);
    if (length > 0)
      changed |= matters_(buffer.data(), static_cast<std::size_t>(length));
    else if (errno == ENOBUFS)  // there were more than the socket holds
      changed = true;
    else if (errno != EINTR)
      return changed;
  }
}

void NetlinkWatch::work() const {
  while (true) {
    std::array<pollfd, 2> fds{{{messages_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    if (poll(fds.data(), fds.size(), -1) < 0) continue;  // EINTR
    if (fds[1].revents != 0) return;
    if (take_messages()) changed_();
  }
}

}  // namespace sluice
