// SPDX-License-Identifier: Apache-2.0
// The ways out of the node as the programs know them: `uplinks` and `masquerade_addresses`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "common/address.h"
#include "common/result.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/maps.h"

namespace sluice::datapath {

class Uplinks {
 public:
  // Ends the masqueraded connections that refer to the number.
  using EndConnections = std::function<Result<void>(std::uint8_t number)>;
  Uplinks(const Maps& maps, EndConnections end_connections)
      : maps_(maps), end_connections_(std::move(end_connections)) {}

  struct Numbers {
    std::uint8_t node = 0, local = 0;  // of the node's address and of the one for its own backends
    bool ways_differ = false;          // see struct sluice_config
  };
  // Writes the uplinks of `config`; others stay until forget(), since their hooks may still be attached.
  [[nodiscard]] Result<Numbers> write(const NodeConfig& config, const Address& local);
  // Those that the programs know, by ifindex.
  [[nodiscard]] Result<std::vector<sluice_uplink>> present() const;
  [[nodiscard]] Result<void> forget(std::uint32_t ifindex) const;
  // How the map differs from what was written last, in words.
  [[nodiscard]] Result<void> audit(std::vector<std::string>& differences) const;

 private:
  [[nodiscard]] Result<std::vector<std::uint8_t>> numbers_of(const std::vector<Address>& addresses) const;

  const Maps& maps_;
  EndConnections end_connections_;
  std::vector<sluice_uplink> written_;
};

}  // namespace sluice::datapath
