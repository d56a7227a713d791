// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <thread>

#include "common/fd.h"
#include "common/result.h"

namespace sluice {

// Tells, from a thread of its own, that something of this network namespace has changed. What, the kernel's
// list says: messages may be lost when there are too many, and that is told too.
class NetlinkWatch {
 public:
  // Root queueing disciplines of links.
  [[nodiscard]] static Result<std::unique_ptr<NetlinkWatch>> qdiscs(std::function<void()> changed);
  // IPsec policies (ip-xfrm(8)). EPROTONOSUPPORT in Error::code: the kernel knows none.
  [[nodiscard]] static Result<std::unique_ptr<NetlinkWatch>> ipsec(std::function<void()> changed);
  // Interfaces, and IPv4 addresses, routes and rules.
  [[nodiscard]] static Result<std::unique_ptr<NetlinkWatch>> network(std::function<void()> changed);
  NetlinkWatch(const NetlinkWatch&) = delete;
  NetlinkWatch& operator=(const NetlinkWatch&) = delete;
  ~NetlinkWatch();

 private:
  // Is one of these messages of the kernel worth telling?
  using Matters = bool (*)(const char* messages, std::size_t length);
  struct Subject {
    int protocol;      // NETLINK_*
    unsigned groups;   // of multicast: group_bit() of each
    const char* what;  // "changes of …"
    Matters matters;
  };
  [[nodiscard]] static Result<std::unique_ptr<NetlinkWatch>> start(const Subject& subject,
                                                                   std::function<void()> changed);
  NetlinkWatch(Fd messages, Fd stop, Matters matters, std::function<void()> changed);
  void work() const;
  [[nodiscard]] bool take_messages() const;

  Fd messages_, stop_;
  Matters matters_;
  std::function<void()> changed_;
  std::thread thread_;
};

}  // namespace sluice
