// SPDX-License-Identifier: Apache-2.0
// A node of its own for a test: a network namespace, a bpffs, and pods in namespaces of theirs, with real
// traffic.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "common/address.h"
#include "common/fd.h"
#include "common/netlink.h"
#include "daemon/datapath/datapath.h"

namespace sluice::test {

// Fails the test with the error's words.
template <typename T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// Runs `action` in a thread of that network namespace. Sockets made in it stay there.
void in_netns(const Fd& netns, const std::function<void()>& action);
[[nodiscard]] Fd new_netns();

// Moves the test's thread into a network and a mount namespace of its own, with a bpffs. Gone with the
// process or the next Sandbox.
class Sandbox {
 public:
  Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;
  ~Sandbox();
  [[nodiscard]] const std::string& bpffs() const { return bpffs_; }

 private:
  std::string bpffs_;
};

class Pod {
 public:
  // veth pair, addresses and routes as the CNI plugin makes them; the host side is down.
  Pod(std::uint32_t id, const std::string& address, const std::string& gateway, bool shares_ingress = false);
  Pod(const Pod&) = delete;
  Pod& operator=(const Pod&) = delete;
  ~Pod();

  [[nodiscard]] const Fd& netns() const { return netns_; }
  [[nodiscard]] const datapath::Endpoint& endpoint() const { return endpoint_; }
  [[nodiscard]] const Address& address() const { return endpoint_.ipv4; }

 private:
  Fd netns_;
  datapath::Endpoint endpoint_;
};

// Traffic. `from` and `at`: a pod's namespace, or nullptr for the node's own. A false answer takes about a
// second.
[[nodiscard]] bool ping(const Fd* from, const Address& to);
[[nodiscard]] Fd listen_tcp(const Fd* at, const Address& address, std::uint16_t port);
[[nodiscard]] Fd connect_tcp(const Fd* from, const Address& to, std::uint16_t port);  // none: no connection
[[nodiscard]] Fd accept_tcp(const Fd& listener);
[[nodiscard]] bool send_and_receive(const Fd& from, const Fd& to);
[[nodiscard]] bool udp_answer(const Fd* from, const Fd* at, const Address& to, std::uint16_t port);

}  // namespace sluice::test
