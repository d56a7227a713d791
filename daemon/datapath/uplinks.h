// SPDX-License-Identifier: Apache-2.0
// The ways out of the node as the programs know them: `uplinks` and `masquerade_addresses`.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <set>
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
  // Connections, which refer to the number of their address.
  struct Masqueraded {
    std::function<Result<std::set<std::uint8_t>>()> numbers;  // of those that there are
    std::function<Result<void>(std::uint8_t number)> end;
  };
  Uplinks(const Maps& maps, Masqueraded connections) : maps_(maps), connections_(std::move(connections)) {}

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
  using Addresses = std::array<Address, SLUICE_MAX_MASQUERADE_ADDRESSES>;  // by number
  [[nodiscard]] Result<std::vector<std::uint8_t>> numbers_of(const std::vector<Address>& addresses) const;
  [[nodiscard]] Result<std::uint8_t> number_taken_from(const Addresses& known,
                                                       const std::vector<Address>& wanted) const;

  const Maps& maps_;
  Masqueraded connections_;
  std::vector<sluice_uplink> written_;
};

}  // namespace sluice::datapath
