// SPDX-License-Identifier: Apache-2.0
// Endpoints in `endpoints`, `ifaces`, `macs`, `locals` and on their hooks.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/netlink.h"
#include "daemon/datapath/attach.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/maps.h"

namespace sluice::datapath {

class Endpoints {
 public:
  Endpoints(const Maps& maps, const Attacher& attacher) : maps_(maps), attacher_(attacher) {}

  // After a start: drops what a daemon that was killed half-way through attach(), detach() or a move left,
  // and gives every other endpoint's interface this build's entry program, even if it has lost its own.
  [[nodiscard]] Result<void> adopt(NetlinkSocket& netlink);
  [[nodiscard]] Result<std::vector<Endpoint>> list(NetlinkSocket& netlink) const;
  [[nodiscard]] Result<void> attach(NetlinkSocket& netlink, const Endpoint& endpoint, unsigned mtu);
  // The address it had; none: there was no such endpoint.
  [[nodiscard]] Result<std::optional<Address>> detach(std::uint32_t id);
  [[nodiscard]] Result<void> restore_programs() const;
  // Interfaces that somebody took down come up again; `found` tells of them.
  [[nodiscard]] Result<void> put_back(NetlinkSocket& netlink, std::vector<std::string>& found) const;
  [[nodiscard]] std::vector<std::uint32_t> links_to_move() const;
  [[nodiscard]] Result<void> finish_move(NetlinkSocket& netlink, std::uint32_t ifindex, const Fd& link) const;
  [[nodiscard]] Result<void> refresh_queues(NetlinkSocket& netlink);
  [[nodiscard]] Result<void> set_keeps_source(const std::set<std::uint32_t>& ids);
  [[nodiscard]] Result<void> verify(NetlinkSocket& netlink, const Endpoint& endpoint) const;
  [[nodiscard]] Result<void> audit(std::vector<std::string>& differences) const;

 private:
  [[nodiscard]] Result<std::optional<sluice_endpoint>> find(std::uint32_t id) const;
  [[nodiscard]] Result<void> drop_unfinished(NetlinkSocket& netlink);
  [[nodiscard]] Result<void> write(const Endpoint& endpoint, const sluice_endpoint& value) const;
  [[nodiscard]] Result<void> erase(std::uint32_t id, const sluice_endpoint& value) const;
  // `change` changes an endpoint's flags.
  [[nodiscard]] Result<void> change_flags(
      const std::function<void(std::uint32_t id, sluice_endpoint&)>& change);
  [[nodiscard]] Result<void> verify_maps(std::uint32_t id, const sluice_endpoint& wanted) const;

  const Maps& maps_;
  const Attacher& attacher_;
  std::map<std::uint32_t, sluice_endpoint> attached_;  // by id
};

}  // namespace sluice::datapath
