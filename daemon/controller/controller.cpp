// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/controller.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

#include "daemon/controller/check_packets.h"

namespace sluice::controller {

using namespace std::chrono_literals;

namespace {

// As many items of policies may wait to come into force. Then who tells of a large one waits, or a tenant
// that changes its policies faster than rules are made would take all memory.
constexpr auto kFirstBackoff = 100ms;
constexpr auto kMostSilence = 30s;
constexpr auto kMostBackoff = std::chrono::milliseconds(5s);

std::string join_reasons(const std::vector<std::string>& reasons) {
  constexpr std::size_t kNamed = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(reasons.size(), kNamed); ++i) text += (i > 0 ? ", " : "") + reasons[i];
  if (reasons.size() > kNamed) text += " and " + std::to_string(reasons.size() - kNamed) + " more";
  return text;
}

policy::Compiler::FirstNumbers numbers_of(datapath::Datapath& datapath) {
  policy::Compiler::FirstNumbers first;
  if (auto numbers = datapath.first_numbers()) {
    first.table = numbers->table;
    first.port_table = numbers->port_table;
    first.peer_class = numbers->peer_class;
  }
  return first;
}

}  // namespace

Controller::Controller(Options options, ipam::Ipam ipam, std::unique_ptr<datapath::Datapath> datapath)
    : options_(std::move(options)),
      ipam_(std::move(ipam)),
      datapath_(std::move(datapath)),
      compiler_(numbers_of(*datapath_)),
      remover_([this](std::uint32_t ifindex) {
        {
          const std::lock_guard lock(mutex_);
          gone_.push_back(ifindex);
        }
        wake_.notify_all();
      }),
      mover_([this](std::uint32_t ifindex) { move_link(ifindex); }) {}

Controller::~Controller() { stop(); }

Result<std::unique_ptr<Controller>> Controller::make(Options options, ipam::Ipam ipam,
                                                     std::unique_ptr<datapath::Datapath> datapath) {
  // Numbers that cannot be read could be given twice; better not to start.
  if (auto numbers = datapath->first_numbers(); !numbers) return tl::unexpected(numbers.error());
  std::unique_ptr<Controller> controller(
      new Controller(std::move(options), std::move(ipam), std::move(datapath)));
  controller->rules_before_ = !controller->datapath_->generations().empty();
  controller->rules_in_force_ = controller->rules_before_;
  if (auto done = controller->adopt(); !done) return tl::unexpected(done.error());
  return controller;
}

void Controller::start(source::Source& source, PodLookup lookup) {
  source_ = &source;
  lookup_ = std::move(lookup);
  // Without them, housekeeping sees changes some seconds later.
  if (auto watch = NetlinkWatch::qdiscs([this] { post([this] { refresh_queues(); }); }))
    qdisc_watch_ = std::move(*watch);
  else
    spdlog::warn("{}", watch.error().message);
  if (auto watch = NetlinkWatch::ipsec([this] { post([this] { refresh_tunnel(); }); }))
    ipsec_watch_ = std::move(*watch);
  else if (watch.error().code != EPROTONOSUPPORT)
    spdlog::warn("{}", watch.error().message);
  if (auto watch = NetlinkWatch::network([this] { look_at_node_soon(); }))
    network_watch_ = std::move(*watch);
  else
    spdlog::warn("{}", watch.error().message);
  thread_ = std::thread([this] { loop(); });
  connections_thread_ = std::thread([this] { collect_connections(); });
}

void Controller::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  stopped_.notify_all();
  for (auto* thread : {&thread_, &connections_thread_})
    if (thread->joinable()) thread->join();
  qdisc_watch_.reset();
  ipsec_watch_.reset();
  network_watch_.reset();
  mover_.stop();
  remover_.stop();
  finish_removals();
}

void Controller::push(Event event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  wake_.notify_all();
}

void Controller::replace(source::FullState state) { push(std::move(state)); }
void Controller::upsert(model::Object object) { push(std::move(object)); }
void Controller::remove(model::ObjectKey key) { push(std::move(key)); }

void Controller::rejected(const std::string& what) {
  spdlog::error("{}", what);
  const std::lock_guard lock(mutex_);
  ++rejected_total_;
}

bool Controller::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    jobs_.push_back(std::move(job));
  }
  wake_.notify_all();
  return true;
}

void Controller::refresh_queues() {
  if (auto done = datapath_->refresh_queues(); !done) spdlog::error("{}", done.error().message);
}

void Controller::refresh_tunnel() {
  if (!node_config_) return;
  if (auto done = datapath_->refresh_tunnel(); !done) spdlog::error("{}", done.error().message);
}

void Controller::reconcile_masquerade() {
  if (std::exchange(masquerade_revision_, ipam_.revision()) == ipam_.revision()) return;
  std::set<std::uint32_t> ids;
  for (const auto& [key, attachment] : ipam_.attachments())
    if (keeps_source(attachment.last_pod.get())) ids.insert(attachment.endpoint);
  if (auto done = datapath_->set_keeps_source(ids); !done) {
    spdlog::error("{}", done.error().message);
    masquerade_revision_ = 0;  // tried again
  }
}

// The link is made here, because that takes its time, and everything else by the thread that owns the
// datapath.
void Controller::move_link(std::uint32_t ifindex) {
  const auto link = datapath_->begin_move(ifindex);
  if (!link) {
    if (link.error().code != ENODEV) spdlog::error("{}; it stays by clsact for now", link.error().message);
    return;
  }
  on_thread([&]() -> server::Answer {
    if (auto done = datapath_->finish_move(ifindex, *link); !done)
      spdlog::error("{}; it stays by clsact for now", done.error().message);
    return {};
  });
}

server::Answer Controller::on_thread(std::function<server::Answer()> work) {
  auto promise = std::make_shared<std::promise<server::Answer>>();
  auto future = promise->get_future();
  if (!post([promise, work = std::move(work)] { promise->set_value(work()); }))
    return server::cni_error(server::kCniTryAgainLater, "sluiced is stopping");
  return future.get();
}

void Controller::collect_connections() {
  std::unique_lock lock(mutex_);
  do {
    lock.unlock();
    datapath_->collect_connections();
    lock.lock();
  } while (!stopped_.wait_for(lock, housekeeping_interval(), [this] { return stopping_; }));
}

void Controller::loop() {
  while (true) {
    std::deque<Event> events;
    std::deque<std::function<void()>> jobs;
    {
      std::unique_lock lock(mutex_);
      const auto pending = [this] {
        return stopping_ || !events_.empty() || !jobs_.empty() || !gone_.empty() || intake_.waiting();
      };
      auto until = housekeeping_at_;
      if (policy_dirty_) until = std::min(until, retry_at_);
      if (node_dirty_) until = std::min(until, node_retry_at_);
      if (services_dirty_ && state_.services_synced()) until = std::min(until, services_retry_at_);
      for (const auto& add : adds_) until = std::min(until, add->deadline);
      if (look_at_node_at_) until = std::min(until, *look_at_node_at_);
      wake_.wait_until(lock, until, pending);
      events.swap(events_);
      jobs.swap(jobs_);
      heartbeat_ = Clock::now();
      if (stopping_) break;
    }
    for (auto& event : events) {
      listed_ |= std::holds_alternative<source::FullState>(event);
      intake_.add(std::move(event));
    }
    intake_.advance(!events.empty() || !jobs.empty(), Clock::now());
    for (auto& reason : state_.take_changes()) reasons_.push_back(std::move(reason));
    if (!reasons_.empty()) policy_dirty_ = true;
    if (state_.take_nodes_changed()) node_dirty_ = node_view_dirty_ = true;
    record_pods();

    const bool housekeeping = Clock::now() >= housekeeping_at_;
    const bool look_at_node = housekeeping || (look_at_node_at_ && Clock::now() >= *look_at_node_at_);
    if (look_at_node)
      node_dirty_ = true;  // addresses of the node may have changed; compared before anything is done
    if (node_dirty_ && Clock::now() >= node_retry_at_) reconcile_node();
    if (look_at_node) put_back();
    finish_removals();
    for (auto& job : jobs) job();
    progress_adds();
    // Services first: they cost little, and what the rules of a large cluster cost is none of their business.
    reconcile_services();
    if (policy_dirty_ && Clock::now() >= retry_at_) reconcile_policy();
    reconcile_masquerade();
    if (housekeeping) {
      reconcile_damaged();
      replay_deletions();
      reconcile_links();
      if (auto done = datapath_->restore_programs(); !done) spdlog::error("{}", done.error().message);
      mover_.offer(datapath_->links_to_move());
      refresh_queues();
      refresh_tunnel();
      datapath_->collect();
      if (peers_left_out_ > 0) policy_dirty_ = true;  // there may be room now
      watch_connections();
      watch_rejected();
      // What a whole list took while it was read and compiled: 12 of 150 MB where there are 100,000 pods,
      // for 24 ms.
      if (policy_live_ && std::exchange(listed_, false)) ::malloc_trim(0);
      housekeeping_at_ = Clock::now() + housekeeping_interval();
    }
    auto why_not = not_ready();
    const std::lock_guard lock(mutex_);
    not_ready_ = std::move(why_not);
    rules_in_force_ = rules_before_ || policy_live_;
    pods_cut_off_ = !rules_in_force_ && !ipam_.attachments().empty();
  }
  // Nobody waits for ever: what came too late is told so.
  std::deque<std::function<void()>> late;
  {
    const std::lock_guard lock(mutex_);
    late.swap(jobs_);
  }
  for (auto& job : late) job();
  for (auto& add : adds_)
    add->answer.set_value(server::cni_error(server::kCniTryAgainLater, "sluiced is stopping"));
  adds_.clear();
}

void Controller::reconcile_policy() {
  // Before the first full sync the rules of the daemon before this one stay in force untouched.
  if (!state_.synced()) return;
  const auto reason = policy_live_ ? join_reasons(reasons_) : "start";
  const auto ruleset = compiler_.compile(state_.cluster(), state_.take_policy_changes());
  tell_refused(ruleset->refused);
  const auto pod_at = [this](const Address& address) { return state_.peer_at(address); };
  auto applied = datapath_->apply(ruleset, reason, [&] {
    return check_packets(state_.cluster(), pod_at, ruleset->refused, check_seed_++);
  });
  if (applied) {
    if (applied->generation) spdlog::info("firewall generation {} live: {}", applied->number, reason);
    tell_left_out(applied->left_out);
    reasons_.clear();
    policy_dirty_ = false;
    if (!policy_live_) look_at_node_at_ = Clock::now();  // for what waited until pods can be attached
    policy_live_ = true;
    backoff_ = 0ms;
  } else {
    backoff_ = std::clamp(backoff_ * 2, std::chrono::milliseconds(kFirstBackoff), kMostBackoff);
    retry_at_ = Clock::now() + backoff_;
    spdlog::error("policy not applied ({}): {}; the rules before stay in force, next try in {} ms", reason,
                  applied.error().message, backoff_.count());
    const std::lock_guard lock(mutex_);
    ++apply_failures_;
  }
  finish_adds(applied);
}

void Controller::tell_refused(const policy::RefusedPolicies& refused) {
  constexpr std::size_t kNamed = 8;
  const std::lock_guard lock(mutex_);
  std::size_t added = 0, lifted = 0;
  for (const auto& [policy, why] : refused) {
    if (refused_.contains(policy)) continue;
    if (++added <= kNamed)
      spdlog::error("NetworkPolicy {} is refused, and admits nobody to the pods that it selects: {}", policy,
                    why);
  }
  if (added > kNamed)
    spdlog::error("{} more NetworkPolicies are refused; sluicectl status names them", added - kNamed);
  for (const auto& [policy, why] : refused_) lifted += refused.contains(policy) ? 0 : 1;
  if (lifted > 0) spdlog::info("{} NetworkPolicies are no longer refused", lifted);
  rejected_total_ += added;
  refused_ = refused;
}

void Controller::tell_left_out(std::size_t left_out) {
  if (left_out > 0 && peers_left_out_ == 0)
    spdlog::error(
        "{} addresses of pods find no room in the firewall's table of peers: rules that mean pods do not "
        "admit "
        "those pods; all other rules are in force",
        left_out);
  if (left_out == 0 && peers_left_out_ > 0) spdlog::info("all pods have room in the firewall's table again");
  const std::lock_guard lock(mutex_);
  peers_left_out_ = left_out;
}

Controller::Clock::duration Controller::housekeeping_interval() const {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.housekeeping_s));
}

bool Controller::alive() {
  const std::lock_guard lock(mutex_);
  // The loop turns at least at every housekeeping; six of them missed is a thread that hangs.
  return Clock::now() - heartbeat_ < std::max<Clock::duration>(6 * housekeeping_interval(), kMostSilence);
}

bool Controller::ready(std::string& why_not) {
  const std::lock_guard lock(mutex_);
  why_not = not_ready_;
  return why_not.empty();
}

std::string Controller::not_ready() const {
  if (auto why_not = not_configured(); !why_not.empty()) return why_not;
  if (!looked_) return "the node's files were not looked at yet";
  if (!not_put_back_.empty()) return "the node is not as Sluice needs it: " + not_put_back_;
  return "";
}

std::string Controller::not_configured() const {
  if (!state_.synced()) {
    const auto error = source_ != nullptr ? source_->status().last_error : "";
    return "not all objects are known yet from the " +
           (source_ != nullptr ? source_->status().description : "source") +
           (error.empty() ? "" : ": " + error);
  }
  if (!node_problem_.empty()) return "the node is not configured: " + node_problem_;
  if (!node_config_ || node_config_->pod_cidrs.empty())
    return "Node " + options_.node_name + " has no podCIDR yet (spec.podCIDRs of the Node object)";
  if (!policy_live_) return "the first ruleset is not live yet";
  return "";
}

}  // namespace sluice::controller
