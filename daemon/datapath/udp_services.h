// SPDX-License-Identifier: Apache-2.0
// Which UDP connections lead where no Service leads them. Nothing in such a connection tells the client to
// begin anew, as a reset does, and it lasts for as long as the client goes on. So they are judged by what is
// in force now, and not by what changed: they may be from before the Service, or from a time without a
// daemon.
#pragma once

#include <cstddef>
#include <memory>
#include <unordered_map>
#include <vector>

#include "bpf/abi.h"
#include "daemon/service/table.h"

namespace sluice::datapath {

class UdpServices {
 public:
  // `unsettled`: frontends of which it is not known what the maps say. Connections to them stay.
  explicit UdpServices(const service::Table& in_force, const std::vector<service::Frontend>& unsettled = {});

  // Is the entry to go, so that the client's next packet opens the connection anew? Of a connection by a
  // Service this is the view that the client has: answers that are on their way still find the connection.
  [[nodiscard]] bool misleads(const sluice_ct_key& key, const sluice_ct_entry& entry) const;
  // May there be connections that `before` let be, and this one ends?
  [[nodiscard]] bool ends_more_than(const UdpServices& before) const;

 private:
  struct End {
    sluice_addr addr;
    __u32 port_be;
    bool operator==(const End& other) const;
  };
  struct Hash {
    std::size_t operator()(const End& end) const;
  };
  using Targets = std::unordered_map<End, std::shared_ptr<const service::Target>, Hash>;

  [[nodiscard]] static bool leads_to(const service::Target& target, const service::Backend& backend);

  Targets targets_;  // none: unsettled
};

}  // namespace sluice::datapath
