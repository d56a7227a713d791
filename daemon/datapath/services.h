// SPDX-License-Identifier: Apache-2.0
// Makes a table of Services live: `services`, `service_slots` and `backends`.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"
#include "daemon/datapath/grace_period.h"
#include "daemon/datapath/maps.h"
#include "daemon/datapath/ranges.h"
#include "daemon/datapath/service_sources.h"
#include "daemon/datapath/udp_services.h"
#include "daemon/service/table.h"

namespace sluice::datapath {

class Services {
 public:
  // `random`: a new connection's backend depends on the time, too, and not on its addresses and ports alone.
  Services(const Maps& maps, GracePeriod& grace, bool random)
      : maps_(maps), grace_(grace), random_(random), sources_(maps, grace) {}

  // Writes what differs from the last call, each frontend in one step; after the start, what differs from
  // what an earlier daemon left. One that cannot be written does not stop
  // the others: the error tells the first and how many there are, and the next call tries them again.
  [[nodiscard]] Result<void> apply(const service::Table& table);
  // UDP frontends in force; another object after they have changed, none before the first apply().
  [[nodiscard]] const std::shared_ptr<const UdpServices>& udp() const { return udp_; }
  // Gives back what packets can no longer be reading.
  [[nodiscard]] Result<void> collect();
  [[nodiscard]] Result<void> audit(std::vector<std::string>& differences) const;

 private:
  struct Region {
    std::uint32_t first = 0, count = 0;
  };
  struct Held {  // a pool in the maps
    Region region;
    unsigned users = 0;  // elements of `services` that refer to it
  };
  struct Known {
    std::uint32_t id = 0;
    unsigned users = 0;  // pools
  };
  struct Released {
    GracePeriod::Ticket ticket;
    std::vector<Region> slots;
    std::vector<std::uint32_t> backends;
  };
  // What an earlier daemon left.
  struct Inherited {
    std::map<service::Frontend, std::map<std::uint8_t, Region>> elements;  // by frontend and scope
    std::vector<std::uint32_t> slots;                                      // all of `service_slots`
    std::map<std::uint32_t, service::Backend> backends;                    // by id, those that slots refer to
    std::map<std::uint32_t, std::uint32_t> regions;                        // first -> count, not claimed yet
    std::set<std::uint32_t> claimed;                                       // of the backends
    std::set<std::pair<std::uint64_t, std::uint32_t>> affine;
  };
  struct Element {
    std::shared_ptr<const service::Pool> pool;
    std::uint64_t affine = 0;   // struct sluice_service.id; 0: the Service has no affinity
    std::uint64_t sources = 0;  // struct sluice_service.sources
  };
  using Elements = std::map<std::uint8_t, Element>;        // by enum sluice_service_scope
  using Affine = std::pair<std::uint64_t, std::uint32_t>;  // Service's id, backend's id

  [[nodiscard]] Result<void> adopt();
  // What an element is to say.
  struct Wanted;
  [[nodiscard]] std::map<std::uint8_t, Wanted> elements_of(const service::Frontend& frontend,
                                                           const service::Target& target) const;
  [[nodiscard]] static sluice_service value_of(const sluice_service_key& key, const Region& region,
                                               const Wanted& wanted);
  [[nodiscard]] Result<void> write(const service::Frontend& frontend,
                                   std::shared_ptr<const service::Target> target);
  [[nodiscard]] Result<Region> hold(const std::shared_ptr<const service::Pool>& pool, const Region* present);
  // Takes over the region if it says the same as the pool.
  [[nodiscard]] bool claim(const service::Pool& pool, const Region& present);
  [[nodiscard]] Result<void> drop_inherited();
  // Of what an earlier daemon left, the frontends that are in the table no more.
  [[nodiscard]] Result<void> erase_unwanted(const service::Table& table);
  [[nodiscard]] Result<Region> fill(const service::Pool& pool);
  [[nodiscard]] Result<std::uint32_t> hold_backend(const service::Backend& backend);
  void let_go(const Element& element);
  [[nodiscard]] Result<void> hold_affine(const Element& element);
  [[nodiscard]] Result<void> audit_pools(std::vector<std::string>& differences) const;
  void let_go_backends(const service::Pool& pool, std::vector<std::uint32_t>& released);

  const Maps& maps_;
  GracePeriod& grace_;
  const bool random_;
  ServiceSources sources_;
  bool adopted_ = false;
  Ranges slots_{0, SLUICE_MAX_SERVICE_SLOTS};
  Ranges ids_{1, SLUICE_MAX_BACKENDS};
  std::map<service::Frontend, std::shared_ptr<const service::Target>> applied_;
  std::map<service::Frontend, Elements> elements_;
  std::map<std::shared_ptr<const service::Pool>, Held> pools_;
  std::map<service::Backend, Known> backends_;
  bool udp_changed_ = true;  // since udp_ was made
  std::shared_ptr<const UdpServices> udp_;
  std::map<Affine, unsigned> affine_;     // of how many elements
  std::unique_ptr<Inherited> inherited_;  // until the first table is live
  std::vector<Released> released_;
};

}  // namespace sluice::datapath
