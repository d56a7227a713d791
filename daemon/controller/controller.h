// SPDX-License-Identifier: Apache-2.0
// Joins the stages: what the source tells becomes the cluster's state, that becomes rules, those go live; CNI
// requests become attachments. One thread owns datapath, IPAM and state; all others hand it work.
// Level-triggered: what could not be done stays to be done and is tried again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/netlink.h"
#include "common/netlink_watch.h"
#include "common/paths.h"
#include "daemon/controller/cluster_state.h"
#include "daemon/controller/intake.h"
#include "daemon/controller/link_mover.h"
#include "daemon/controller/link_remover.h"
#include "daemon/controller/missing_namespaces.h"
#include "daemon/controller/node_addresses.h"
#include "daemon/datapath/datapath.h"
#include "daemon/ipam/ipam.h"
#include "daemon/policy/compiler.h"
#include "daemon/server/api.h"
#include "daemon/server/health_checks.h"
#include "daemon/service/compiler.h"
#include "daemon/source/source.h"

namespace sluice::controller {

struct Options {
  std::string node_name;
  std::string uplink;                  // empty: the interface that has the node's InternalIP
  unsigned mtu = 0;                    // of pods; 0: the uplink's less the tunnel's overhead
  bool masquerade = true;              // pods towards the world, unless their annotation says otherwise
  std::vector<Prefix> non_masquerade;  // destinations for which they never are
  bool masquerade_annotation = false;  // may a pod's annotation go before `masquerade`?
  bool external_ips = true;            // may a Service have external IPs?
  std::vector<service::ReservedPorts> reserved_ports;  // of the node, which no Service may have
  std::set<service::Frontend> api_servers;             // where the source itself finds the API server
  double housekeeping_s = 5;
  std::string state_dir = kDefaultStateDir;
};

// Asks the source for one pod right now; no value: there is none. Unset where the source cannot.
using PodLookup =
    std::function<Result<std::optional<model::Pod>>(const std::string& ns, const std::string& name)>;

class Controller final : public source::Sink, public server::Api {
 public:
  // Takes over what a daemon before this one left: pinned endpoints, attachments on disk, interfaces.
  [[nodiscard]] static Result<std::unique_ptr<Controller>> make(Options options, ipam::Ipam ipam,
                                                                std::unique_ptr<datapath::Datapath> datapath);
  ~Controller() override;
  void start(source::Source& source, PodLookup lookup);  // the source outlives stop()
  // What else of the node is to be looked at with the datapath's part, and put back. `configured`: the daemon
  // could attach pods, but for what is to be put back. Called on the controller's thread until stop().
  using AlsoPutBack = std::function<void(bool configured, datapath::Datapath::PutBack& result)>;
  void also_put_back(AlsoPutBack what);
  void look_at_node_soon();
  void stop();

  void replace(source::FullState state) override;
  void upsert(model::Object object) override;
  void remove(model::ObjectKey key) override;
  void rejected(const std::string& what) override;

  server::Answer cni_add(const nlohmann::json& body) override;
  server::Answer cni_del(const nlohmann::json& body) override;
  server::Answer cni_check(const nlohmann::json& body) override;
  server::Answer cni_gc(const nlohmann::json& body) override;
  server::Answer cni_status() override;
  server::Answer status() override;
  server::Answer endpoints() override;
  server::Answer endpoint_policy(const std::string& which) override;
  server::Answer firewall() override;
  server::Answer services() override;
  server::Answer modules() override;
  server::Answer conntrack_list(const server::ConnectionQuery& query) override;
  server::Answer conntrack_flush(const server::ConnectionQuery& query) override;
  bool alive() override;
  bool ready(std::string& why_not) override;
  std::string metrics() override;
  void monitor(bool drops, bool verdicts, const std::function<bool(const std::string&)>& line) override;

 private:
  using Clock = std::chrono::steady_clock;

  struct PendingAdd {
    ipam::Attachment wanted;
    Clock::time_point deadline;
    std::uint64_t policies_told = 0;  // Intake::last_of() its namespace when it came
    std::promise<server::Answer> answer;
  };
  struct Added {  // attached, waiting for its rules
    std::shared_ptr<PendingAdd> request;
    ipam::Attachment attachment;
    Mac host_mac;  // of the link's host side
  };

  struct Shortage {  // of room for connections, by the drops that it causes
    bool known = false;
    std::uint64_t seen = 0, told = 0;  // number of drops
    Clock::time_point last_at;
    std::optional<Clock::time_point> warned_at;
  };

  Controller(Options options, ipam::Ipam ipam, std::unique_ptr<datapath::Datapath> datapath);
  Result<void> adopt();
  void adopt_endpoint(const datapath::Endpoint& endpoint);
  void restore_records();
  static void note_on_link(NetlinkSocket& netlink, const ipam::Attachment& attachment,
                           const std::string& note);
  [[nodiscard]] static ClusterState::Sandbox sandbox_of(const ipam::Attachment& attachment);
  void record_pods();
  void heal_attachment(const ipam::Attachment& attachment);

  void loop();
  void
  collect_connections();  // a thread of its own: the table can be large, and pods and policies must not wait
  [[nodiscard]] Clock::duration housekeeping_interval() const;
  void push(Event event);
  bool post(std::function<void()> job);  // for the controller's thread; false: it is stopping
  void refresh_queues();
  void refresh_tunnel();
  void reconcile_masquerade();
  void move_link(std::uint32_t ifindex);  // on the mover's thread
  // Runs `work` on the controller's thread and waits for it; a daemon that is stopping answers "try again
  // later".
  server::Answer on_thread(std::function<server::Answer()> work);

  void reconcile_node();
  void find_former_pods(datapath::NodeConfig& config) const;
  void record_pod_cidrs(const std::vector<Prefix>& cidrs);
  void forget_ranges();
  void reconcile_policy();
  void tell_refused(const policy::RefusedPolicies& refused);
  void tell_left_out(std::size_t left_out);
  void reconcile_services();
  void compile_services();
  void refresh_node_view();
  [[nodiscard]] service::Surroundings surroundings() const;
  void compile_host_ports();
  void apply_services();
  void answer_health_checks();
  void watch_connections();
  void watch_rejected();
  void reconcile_damaged();
  void put_back();
  [[nodiscard]] Result<bool> make_deletions_folder() const;  // false: it was there
  void reconcile_links();
  void remove_links_of_nobody(const std::vector<Link>& links);
  void replay_deletions();

  // CNI, on the controller's thread.
  [[nodiscard]] std::string not_ready() const;
  [[nodiscard]] std::string not_configured() const;
  void progress_adds();
  [[nodiscard]] Result<Added> attach(const std::shared_ptr<PendingAdd>& request);
  [[nodiscard]] Result<void> host_ports_free(const ipam::Attachment& wanted) const;
  void finish_adds(const Result<datapath::Applied>& applied);
  Result<void> forget(const ipam::AttachmentKey& key);
  Result<void> forget_unrecorded(const ipam::AttachmentKey& key);
  // No packet passes any more, either way, and its rules are to go; then retire().
  Result<void> take_down(const datapath::Endpoint& endpoint);
  // Its link is deleted on the side; until that is done, address and id are given to nobody else.
  void retire(const datapath::Endpoint& endpoint);
  void finish_removals();
  [[nodiscard]] server::Answer attachment_answer(const ipam::Attachment& attachment,
                                                 const Mac& host_mac) const;
  [[nodiscard]] datapath::Endpoint endpoint_of(const ipam::Attachment& attachment) const;
  [[nodiscard]] bool keeps_source(const model::Pod* pod) const;  // none: a pod that is not known
  [[nodiscard]] nlohmann::json endpoint_json(std::uint32_t id) const;
  [[nodiscard]] std::string pod_name(std::uint32_t id) const;            // empty: not known
  [[nodiscard]] std::map<Address, std::uint32_t> pod_addresses() const;  // -> endpoint id
  [[nodiscard]] nlohmann::json owner_json(std::uint32_t owner) const;    // see SLUICE_CT_OWNERS
  [[nodiscard]] nlohmann::json conntrack_json() const;
  [[nodiscard]] Result<datapath::ConnectionFilter> connection_filter(
      const server::ConnectionQuery& query) const;

  Options options_;
  ipam::Ipam ipam_;
  std::unique_ptr<datapath::Datapath> datapath_;
  policy::Compiler compiler_;
  service::Compiler service_compiler_;
  ClusterState state_;
  Intake intake_{state_};
  std::set<std::uint32_t> not_recorded_;  // endpoints whose pod could not be written to their record
  source::Source* source_ = nullptr;
  PodLookup lookup_;
  const std::chrono::system_clock::time_point started_at_ = std::chrono::system_clock::now();

  // Owned by the thread.
  std::list<std::shared_ptr<PendingAdd>> adds_;
  std::vector<Added> added_;
  std::vector<datapath::Endpoint> unclaimed_;                   // pinned endpoints without a usable record
  std::map<std::uint32_t, datapath::Endpoint> retired_;         // by ifindex, until the link is gone
  std::map<std::uint32_t, Clock::time_point> links_of_nobody_;  // by ifindex: since when
  std::optional<datapath::NodeConfig> node_config_;
  std::vector<std::string> node_addresses_refused_;  // of other nodes, as told last
  std::optional<FormerRanges> ranges_of_nodes_;      // ... and those that the other nodes have now
  std::vector<std::string> reasons_;                 // changes not applied yet
  bool policy_dirty_ = true;
  bool node_dirty_ = true;
  bool listed_ = false;  // since memory was last given back
  std::optional<Clock::time_point> look_at_node_at_;
  std::vector<AlsoPutBack> also_put_back_;
  bool looked_ = false;                    // at the node, since it is configured
  std::string not_put_back_;               // "": the node is as it has to be
  std::vector<std::string> found_before_;  // by the last look, if it could not put all back
  bool policy_live_ = false;               // a ruleset of this daemon is in force
  bool rules_before_ = false;  // a ruleset of the daemon before this one was in force when this one started
  bool services_dirty_ = true;
  std::vector<Prefix> service_ranges_;    // as the datapath is told
  bool node_view_dirty_ = true;           // something changed of what Services see of the nodes
  std::set<std::string> host_port_keys_;  // of service_compiler_
  // Of the attachments, as far as they were heeded for host ports and for masquerading.
  std::uint64_t host_ports_revision_ = 0, masquerade_revision_ = 0;
  std::uint64_t claims_counted_ = 0;  // at which revision of service_compiler_
  MissingNamespaces missing_namespaces_;
  Clock::time_point services_retry_at_{};
  std::string services_problem_;                         // told last; empty: none
  std::vector<service::ReservedPorts> ephemeral_ports_;  // of the node's own connections
  Clock::time_point ephemeral_ports_at_{};               // when to look again
  server::HealthChecks health_checks_;
  service::HealthChecks health_checks_set_;  // what it was told last
  std::string health_checks_problem_;        // empty: none
  Clock::time_point health_checks_retry_at_{};
  std::map<sluice_drop_reason, Shortage> shortages_;
  std::uint32_t check_seed_ = 0;
  std::size_t peers_left_out_ = 0;  // as told last; written under mutex_
  Clock::time_point retry_at_{};    // of the policies
  Clock::time_point node_retry_at_{};
  bool told_no_interface_ = false;
  std::string strict_filters_told_;
  std::string node_problem_;  // why the node is not configured, as told last; empty: none
  std::chrono::milliseconds backoff_{0};
  Clock::time_point housekeeping_at_{};

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable wake_, stopped_;
  std::deque<Event> events_;
  std::deque<std::function<void()>> jobs_;
  std::uint64_t rejected_total_ = 0, apply_failures_ = 0, adds_total_ = 0, dels_total_ = 0;
  std::uint64_t put_back_total_ = 0;
  std::deque<std::string> last_put_back_;
  policy::RefusedPolicies refused_;  // as compiled last; written by the thread
  std::size_t claims_rejected_ = 0, policies_without_namespace_ = 0;  // as of the last housekeeping
  std::string not_ready_ = "starting";
  bool rules_in_force_ = false;  // of this daemon, or of the one before it
  bool pods_cut_off_ = false;                            // there are pods, and no ruleset at all is in force
  nlohmann::json conntrack_ = nlohmann::json::object();  // as of the last housekeeping
  // Connections by Service and backend, the same.
  std::map<std::pair<std::string, service::Backend>, std::uint64_t> service_connections_;
  Clock::time_point heartbeat_ = Clock::now();
  std::vector<std::uint32_t> gone_;  // ifindexes that the remover has finished with
  bool stopping_ = false;
  LinkRemover remover_;
  LinkMover mover_;
  std::unique_ptr<NetlinkWatch> qdisc_watch_, ipsec_watch_, network_watch_;
  std::thread thread_, connections_thread_;
};

}  // namespace sluice::controller
