// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/datapath.h"

#include <bpf/libbpf.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "daemon/datapath/attach.h"
#include "daemon/datapath/conntrack.h"
#include "daemon/datapath/endpoints.h"
#include "daemon/datapath/events.h"
#include "daemon/datapath/firewall.h"
#include "daemon/datapath/maps.h"
#include "daemon/datapath/modules.h"
#include "daemon/datapath/node.h"
#include "daemon/datapath/pins.h"
#include "daemon/datapath/service_addresses.h"
#include "daemon/datapath/services.h"
#include "daemon/datapath/settings.h"
#include "daemon/datapath/socket_hooks.h"
#include "daemon/datapath/status.h"
#include "daemon/datapath/tunnel.h"

namespace sluice::datapath {

namespace {

// What has to be there before the parts that work with it.
struct Ground {
  Options options;
  Pins pins;
  ObjectOptions objects;
  Modules modules;
  Maps maps;
  std::shared_ptr<const Settings> settings;  // monitors hold it too
  Attacher::Ways ways;
  LiveStamp live;
  std::unique_ptr<GracePeriod> grace;
  Conntrack::Use conntrack_use;
  Conntrack::Secret conntrack_secret;
  NetlinkSocket netlink;
};

// Before Linux 5.11 maps count as locked memory. Where raising the limit is not allowed it may be enough as
// it is.
void raise_memlock_limit() {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  static_cast<void>(setrlimit(RLIMIT_MEMLOCK, &unlimited));
}

class KernelDatapath final : public Datapath {
 public:
  explicit KernelDatapath(Ground ground)
      : ground_(std::move(ground)),
        attacher_(ground_.ways, ground_.pins, ground_.modules.entry),
        node_(ground_.maps, *ground_.settings, attacher_, ground_.options,
              {[this] { return conntrack_.masquerade_numbers(); },
               [this](std::uint8_t number) { return conntrack_.end_masqueraded(number); }}),
        tunnel_(*ground_.settings, ground_.options),
        endpoints_(ground_.maps, attacher_),
        history_(ground_.maps.generation_stats, ground_.live),
        firewall_({ground_.maps, ground_.pins, ground_.modules.probe, ground_.objects, ground_.live,
                   *ground_.grace, history_, ground_.options.most_peers}),
        services_(ground_.maps, *ground_.grace, ground_.options.algorithm == Algorithm::kRandom),
        service_addresses_(ground_.maps, *ground_.settings),
        sockets_(ground_.pins, ground_.modules.socket, ground_.options.cgroup),
        conntrack_({ground_.maps, ground_.modules.sweep}, std::move(ground_.conntrack_use),
                   ground_.conntrack_secret),
        events_(ground_.maps.events, ground_.settings) {}

  // Takes over what an earlier daemon left.
  [[nodiscard]] Result<void> adopt() {
    return ground_.settings
        ->change([&](sluice_config& config) {
          config.monitor = 0;  // its monitors are gone
        })
        .and_then([&] { return firewall_.adopt(); })
        .and_then([&] { return endpoints_.adopt(ground_.netlink); })
        .and_then([&] { return node_.refresh_hooks(); })
        .and_then([&] { return sockets_.adopt(*ground_.settings); });
  }

  Result<void> configure(const NodeConfig& config) override {
    auto done = node_.configure(ground_.netlink, config)
                    .and_then([&] { return forget_strangers(config); })
                    .and_then([&] { return tunnel_.configure(ground_.netlink, config); })
                    .and_then([&] { return service_addresses_.refresh(ground_.netlink); });
    if (done) configured_ = config;
    return done;
  }
  PutBack put_back() override {
    PutBack result;
    auto done = endpoints_.put_back(ground_.netlink, result.found);
    if (!done || !configured_) {
      if (!done) result.problem = done.error().message;
      return result;
    }
    auto missing = host_differences();
    if (missing && !missing->empty()) {
      result.found.insert(result.found.end(), missing->begin(), missing->end());
      service_addresses_.forget_written();
      done = configure(NodeConfig(*configured_));
      missing = done ? host_differences() : tl::unexpected(done.error());
    }
    if (!missing)
      result.problem = missing.error().message;
    else if (!missing->empty())
      result.problem = fmt::format("{} and cannot be put back", fmt::join(*missing, ", "));
    return result;
  }
  Result<std::vector<Endpoint>> endpoints() override { return endpoints_.list(ground_.netlink); }
  Result<void> attach(const Endpoint& endpoint, unsigned mtu) override {
    return conntrack_.give(endpoint.ipv4).and_then([&] {
      return endpoints_.attach(ground_.netlink, endpoint, mtu);
    });
  }
  Result<void> detach(std::uint32_t id) override {
    auto gone = endpoints_.detach(id);
    if (!gone) return tl::unexpected(gone.error());
    // The next pod with this address must not inherit connections that were admitted for this one.
    if (*gone) {
      firewall_.rejudge_connections();
      conntrack_.pod_gone(**gone);
    }
    return {};
  }
  Result<void> interface_gone(std::uint32_t ifindex) override { return attacher_.forget(ifindex); }
  Result<void> restore_programs() override {
    return endpoints_.restore_programs().and_then([&] { return node_.restore_hooks(); }).and_then([&] {
      return sockets_.restore();
    });
  }
  std::vector<std::uint32_t> links_to_move() override { return endpoints_.links_to_move(); }
  Result<Fd> begin_move(std::uint32_t ifindex) const override {
    return attacher_.begin_move(ifindex, SLUICE_HOOK_POD);
  }
  Result<void> finish_move(std::uint32_t ifindex, const Fd& link) override {
    return endpoints_.finish_move(ground_.netlink, ifindex, link);
  }
  Result<void> refresh_queues() override { return endpoints_.refresh_queues(ground_.netlink); }
  Result<void> refresh_tunnel() override { return tunnel_.refresh(ground_.netlink); }
  TunnelStatus tunnel() const override { return tunnel_.status(); }
  Result<void> set_keeps_source(const std::set<std::uint32_t>& ids) override {
    return endpoints_.set_keeps_source(ids);
  }
  Result<void> verify(const Endpoint& endpoint) override {
    return endpoints_.verify(ground_.netlink, endpoint);
  }

  Result<std::vector<std::pair<Prefix, Address>>> remote_ranges() override { return node_.remote_ranges(); }
  Result<Numbers> first_numbers() override { return firewall_.first_numbers(); }
  Result<Applied> apply(std::shared_ptr<const policy::Ruleset> ruleset, const std::string& reason,
                        const std::function<CheckPackets()>& check) override {
    return firewall_.apply(std::move(ruleset), reason, check);
  }
  Result<void> apply_services(const service::Table& table, const std::vector<Prefix>& ranges) override {
    // Before a packet is sent there it is known what to do with it, and after it was.
    auto done = services_.apply(table);
    // Also if some could not be applied: the others are to be reached.
    auto led = service_addresses_.apply(ground_.netlink, table, ranges);
    if (done) done = std::move(led);
    if (auto ended = conntrack_.serve(services_.udp()); !ended)
      spdlog::warn("UDP connections that Services do not lead where they go stay until the next look: {}",
                   ended.error().message);
    return done;
  }
  void collect() override {
    if (auto done = firewall_.collect(); !done)
      spdlog::warn("rules out of use stay: {}", done.error().message);
    if (auto done = services_.collect(); !done)
      spdlog::warn("backends of Services that are out of use stay: {}", done.error().message);
  }
  Result<std::vector<std::string>> audit() override {
    std::vector<std::string> differences;
    auto done = endpoints_.audit(differences)
                    .and_then([&] { return node_.audit(differences); })
                    .and_then([&] {
                      return configured_ ? node_.audit_host(ground_.netlink, *configured_, differences)
                                         : Result<void>();
                    })
                    .and_then([&] { return audit_modules(ground_.pins, ground_.maps, differences); })
                    .and_then([&] { return firewall_.audit(differences); })
                    .and_then([&] { return services_.audit(differences); })
                    .and_then([&] { return service_addresses_.audit(ground_.netlink, differences); })
                    .and_then([&] { return sockets_.audit(differences); });
    if (!done) return tl::unexpected(done.error());
    return differences;
  }

  void collect_connections() override {
    if (auto done = conntrack_.collect(); !done)
      spdlog::warn("expired connections stay: {}", done.error().message);
  }
  Result<sluice_stats> stats() const override {
    return ground_.maps.packet.lookup(0).map([](const std::vector<sluice_cpu>& all) {
      std::vector<sluice_stats> each(all.size());
      std::transform(all.begin(), all.end(), each.begin(), [](const sluice_cpu& own) { return own.stats; });
      return sum(each);
    });
  }
  std::vector<GenerationStatus> generations() const override { return history_.list(); }
  Result<std::vector<ModuleStatus>> modules() const override {
    return module_status(ground_.pins, ground_.maps);
  }
  Result<std::vector<LinkStatus>> links() const override {
    return link_status(ground_.maps, *ground_.settings, attacher_);
  }
  SocketStatus sockets() const override { return sockets_.status(); }
  Result<std::vector<MapStatus>> maps() const override { return map_status(ground_.pins); }
  ConntrackStatus conntrack() const override { return conntrack_.status(); }
  Served served_connections() const override { return conntrack_.served(); }
  Result<Connections> connections(const ConnectionFilter& filter, std::size_t most) const override {
    return conntrack_.list(filter, most);
  }
  Result<std::uint64_t> flush_connections(const ConnectionFilter& filter) override {
    return conntrack_.flush(filter);
  }
  Result<std::shared_ptr<void>> monitor(std::uint32_t flags,
                                        std::function<void(const sluice_event&)> sink) override {
    return events_.monitor(flags, std::move(sink));
  }

 private:
  // How the node differs from what configure() and apply_services() made of it.
  Result<std::vector<std::string>> host_differences() {
    std::vector<std::string> differences;
    auto done = node_.audit_host(ground_.netlink, *configured_, differences).and_then([&] {
      return service_addresses_.audit(ground_.netlink, differences);
    });
    if (!done) return tl::unexpected(done.error());
    return differences;
  }

  // Once, before the first pod gets an address.
  Result<void> forget_strangers(const NodeConfig& config) {
    if (strangers_forgotten_) return {};
    auto pods = endpoints_.list(ground_.netlink);
    if (!pods) return tl::unexpected(pods.error());
    std::set<Address> others;
    for (const auto& pod : *pods) others.insert(pod.ipv4);
    for (const auto& cidr :
         config.pod_cidrs) {  // of the gateway and of what it masquerades, which are no pods
      others.insert(cidr.address());
      others.insert(Address::from_v4(cidr.address().v4() + 1));
    }
    return conntrack_.forget_strangers(config.pod_cidrs, others).map([&] { strangers_forgotten_ = true; });
  }

  bool strangers_forgotten_ = false;
  std::optional<NodeConfig> configured_;
  Ground ground_;
  Attacher attacher_;
  Node node_;
  Tunnel tunnel_;
  Endpoints endpoints_;
  History history_;
  Firewall firewall_;
  Services services_;
  ServiceAddresses service_addresses_;
  SocketHooks sockets_;
  Conntrack conntrack_;
  Events events_;
};

// Tells the programs about their table. The secret is made with it: entries are found by it.
Result<Conntrack::Secret> prepare_conntrack(const Maps& maps, const Settings& settings) {
  Conntrack::Secret made{};
  if (getrandom(made.data(), sizeof made, 0) != sizeof made)
    return failure_errno(errno, "make conntrack's secret (getrandom)");
  auto done = settings.change([&](sluice_config& config) {
    config.conntrack_groups = conntrack_groups(maps);
    if (config.conntrack_secret[0]) return;
    std::ranges::transform(made, config.conntrack_secret, [](auto word) { return word | 1; });
  });
  if (!done) return tl::unexpected(done.error());
  return settings.get().map(
      [](const sluice_config& config) { return std::to_array(config.conntrack_secret); });
}

Result<Ground> lay_ground(const Options& options) {
  auto pins = Pins::open(options.bpffs);
  if (!pins) return tl::unexpected(pins.error());
  raise_memlock_limit();
  const auto memory =
      static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const auto wanted =
      conntrack_groups(options.conntrack_max ? options.conntrack_max : conntrack_size(memory));
  ObjectOptions objects{pins->root(), wanted};
  objects.peers = options.peers;
  auto modules = Modules::load(*pins, objects);
  if (!modules) return tl::unexpected(modules.error());
  auto maps = Maps::open(*pins);
  if (!maps) return tl::unexpected(maps.error());
  auto config = Map<std::uint32_t, sluice_config>::open(pins->map("config"));
  if (!config) return tl::unexpected(config.error());
  auto ways = Attacher::ways(options.attach);
  if (!ways) return tl::unexpected(ways.error());
  auto live = LiveStamp::map(maps->live.raw());
  if (!live) return tl::unexpected(live.error());
  auto grace = GracePeriod::make();
  if (!grace) return tl::unexpected(grace.error());
  auto conntrack_use = Conntrack::Use::map(maps->conntrack_use.raw());
  if (!conntrack_use) return tl::unexpected(conntrack_use.error());
  auto netlink = NetlinkSocket::make();
  if (!netlink) return tl::unexpected(netlink.error());
  auto settings = std::make_shared<const Settings>(std::move(*config));
  auto conntrack_secret = prepare_conntrack(*maps, *settings);
  if (!conntrack_secret) return tl::unexpected(conntrack_secret.error());
  if (const auto groups = conntrack_groups(*maps); groups != wanted)
    spdlog::warn(
        "conntrack has room for {} entries, not {}: a live table keeps its size until the node reboots",
        groups * SLUICE_CT_GROUP_ENTRIES, wanted * SLUICE_CT_GROUP_ENTRIES);
  return Ground{options,
                std::move(*pins),
                objects,
                std::move(*modules),
                std::move(*maps),
                std::move(settings),
                *ways,
                std::move(*live),
                std::move(*grace),
                std::move(*conntrack_use),
                *conntrack_secret,
                std::move(*netlink)};
}

}  // namespace

Result<std::unique_ptr<Datapath>> Datapath::open(const Options& options) {
  auto ground = lay_ground(options);
  if (!ground) return tl::unexpected(ground.error());
  auto datapath = std::make_unique<KernelDatapath>(std::move(*ground));
  if (auto done = datapath->adopt(); !done) return tl::unexpected(done.error());
  return datapath;
}

}  // namespace sluice::datapath
