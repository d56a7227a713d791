// SPDX-License-Identifier: Apache-2.0
// One generation of the firewall: its program, with the array of what each endpoint admits.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "bpf/abi.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/map.h"
#include "daemon/datapath/modules.h"
#include "daemon/datapath/object.h"
#include "daemon/datapath/pins.h"
#include "daemon/policy/ruleset.h"

namespace sluice::datapath {

// What the program is built to look for. It leaves out what its ruleset does not use.
struct Features {
  bool blocks = false;
  bool ports = false;
  bool port_tables = false;
  bool default_rows = false;
  [[nodiscard]] static Features of(const policy::Ruleset& ruleset);
  [[nodiscard]] bool cover(const Features& needed) const {
    return (blocks || !needed.blocks) && (ports || !needed.ports) && (port_tables || !needed.port_tables) &&
           (default_rows || !needed.default_rows);
  }
};

class Generation {
 public:
  [[nodiscard]] static constexpr std::uint32_t slot_of(std::uint32_t number) {
    return number % SLUICE_GENERATION_SLOTS;
  }
  // `peers`: the map that it looks peers up in.
  [[nodiscard]] static Result<Generation> load(const ObjectOptions& options, std::uint32_t number,
                                               const Features& features, const RawMap& peers);

  [[nodiscard]] std::uint32_t number() const { return number_; }
  [[nodiscard]] std::uint32_t slot() const { return slot_of(number_); }
  [[nodiscard]] const Features& features() const { return features_; }
  [[nodiscard]] const Program& program() const { return program_; }
  [[nodiscard]] const Map<std::uint32_t, sluice_policy>& policies() const { return policies_; }

  [[nodiscard]] Result<void> pin(const Pins& pins) const;
  [[nodiscard]] Result<void> fill(const std::map<std::uint32_t, policy::EndpointPolicy>& endpoints) const;
  // Changes only the endpoints that differ from `before` to `after`. True: something was written.
  [[nodiscard]] Result<bool> change(const std::map<std::uint32_t, policy::EndpointPolicy>& before,
                                    const std::map<std::uint32_t, policy::EndpointPolicy>& after) const;
  [[nodiscard]] Result<void> audit(const std::map<std::uint32_t, policy::EndpointPolicy>& endpoints,
                                   std::vector<std::string>& differences) const;

 private:
  std::uint32_t number_ = 0;
  Features features_;
  Program program_;
  Map<std::uint32_t, sluice_policy> policies_;
};

// Runs the packets through modules[CANDIDATE]; an error names the first whose verdict is not the expected
// one.
[[nodiscard]] Result<void> check_candidate(const Program& probe, const CheckPackets& packets);

}  // namespace sluice::datapath
