// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/firewall.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>

#include "common/fault_point.h"
#include "common/guard.h"

namespace sluice::datapath {

namespace {

class Stopwatch {
 public:
  // Since it was made or asked last.
  [[nodiscard]] std::chrono::nanoseconds lap() {
    const auto now = std::chrono::steady_clock::now();
    return now - std::exchange(last_, now);
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

std::chrono::system_clock::time_point wall_clock(std::chrono::nanoseconds since_boot) {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  const auto ago = std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec) - since_boot;
  return std::chrono::system_clock::now() -
         std::chrono::duration_cast<std::chrono::system_clock::duration>(ago);
}

void raise(Datapath::Numbers& numbers, const auto& tables, const auto& port_tables) {
  for (const std::uint32_t table : tables) numbers.table = std::max(numbers.table, table + 1);
  for (const std::uint32_t table : port_tables) numbers.port_table = std::max(numbers.port_table, table + 1);
}

}  // namespace

// The id of the program in modules[FIREWALL]; 0: none.
Result<std::uint32_t> Firewall::program_in_force() const {
  return parts_.maps.modules.lookup(SLUICE_MODULE_FIREWALL).map([](std::optional<std::uint32_t> id) {
    return id.value_or(0);
  });
}

Result<void> Firewall::adopt() {
  if (auto done = rules_.open(); !done) return done;
  // The daemon before this one may have swapped a moment ago.
  left_before_ = parts_.grace.begin();
  left_slot_.fill(left_before_);
  auto in_force = program_in_force();
  if (!in_force) return tl::unexpected(in_force.error());
  SLUICE_FAULT_POINT("adopt.rules_read");
  next_number_ = parts_.live.generation() + 1;
  // Of a check that was cut short.
  if (auto done = parts_.maps.modules.erase(SLUICE_MODULE_CANDIDATE); !done)
    return tl::unexpected(done.error());
  SLUICE_FAULT_POINT("adopt.candidate_cleared");
  for (const auto number : parts_.pins.generations()) {
    auto program = open_program(parts_.pins.generation_program(number));
    auto policies = Map<std::uint32_t, sluice_policy>::open(parts_.pins.generation_policies(number));
    if (!program || !policies || program->id != *in_force) {
      parts_.pins.remove_generation(number);  // never came into force, or was replaced
      SLUICE_FAULT_POINT("adopt.generation_removed");
      continue;
    }
    // Killed between the slot's write and the publication: the generation is in force, so it is completed.
    if (parts_.live.generation() != number) {
      parts_.live.publish(number, 0);
      SLUICE_FAULT_POINT("adopt.generation_published");
    }
    next_number_ = number + 1;
    auto entries = policies->entries();
    if (!entries) return tl::unexpected(entries.error());
    for (const auto& [id, policy] : *entries) raise(adopted_, policy.table, policy.ports);
    GenerationStatus status;
    status.number = number;
    status.slot = Generation::slot_of(number);
    status.program_id = program->id;
    status.reason = "in force when this daemon started";
    status.swapped_at = wall_clock(program->loaded);  // a generation is swapped in as soon as it is loaded
    parts_.history.add(std::move(status));
    SLUICE_FAULT_POINT("adopt.generation_found");
  }
  return {};
}

Datapath::Numbers Firewall::first_numbers() const {
  auto numbers = rules_.free_numbers();
  numbers.table = std::max(numbers.table, adopted_.table);
  numbers.port_table = std::max(numbers.port_table, adopted_.port_table);
  // A table that admits nothing has no rows, and its number must not be given away for all that.
  if (applied_)
    for (const auto& [id, policy] : applied_->endpoints) raise(numbers, policy.table, policy.ports);
  return numbers;
}

Result<Applied> Firewall::apply(std::shared_ptr<const policy::Ruleset> ruleset, const std::string& reason,
                                const std::function<CheckPackets()>& check) {
  Applied applied;
  // Without what only rulesets before the one in force had there is (daemon/policy/limits.h).
  if (!rules_.has_room_for(*ruleset))
    if (auto done = collect(); !done) return tl::unexpected(done.error());
  if (fits_in_place(*ruleset)) {
    auto changed = apply_in_place(*ruleset);
    if (!changed) return tl::unexpected(changed.error());
    applied.changed = *changed;
  } else {
    auto status = apply_generation(*ruleset, check);
    if (!status) return tl::unexpected(status.error());
    status->reason = reason;
    parts_.history.add(std::move(*status));
    applied.generation = applied.changed = true;
  }
  applied_ = std::move(ruleset);
  applied.number = live_->number();
  applied.left_out = rules_.left_out();
  return applied;
}

// Two peers cannot change their classes by one write: a packet between them could be judged by the new class
// of one and the old class of the other.
bool Firewall::several_peers_change(const policy::Ruleset& next) const {
  unsigned changes = 0;
  return !policy::PeerMap::differences(applied_->peers, next.peers,
                                       [&](const Address&, const auto* before, const auto* after) {
                                         if (before != nullptr && after != nullptr) ++changes;
                                         return changes < 2;
                                       });
}

bool Firewall::fits_in_place(const policy::Ruleset& next) const {
  if (!live_ || doubtful_ || !live_->features().cover(Features::of(next)) ||
      !rules_.has_room_for_peers(next) || several_peers_change(next))
    return false;
  return std::all_of(next.endpoints.begin(), next.endpoints.end(), [&](const auto& each) {
    const auto before = applied_->endpoints.find(each.first);
    return before == applied_->endpoints.end() || before->second.admits_as(each.second);
  });
}

// Each address changes from its old class to its new one in one write (a pod of this node in two, of which a
// packet reads one), and rows for the new class are there before: every packet is judged as before the change
// or as after it.
Result<bool> Firewall::apply_in_place(const policy::Ruleset& next) {
  leftovers_ = true;
  const auto slot = RuleMaps::Slots().set(live_->slot());
  Guard undo([&] {
    // What this cannot put back, the next apply() replaces by a new generation.
    doubtful_ = !rules_.write_slots(slot, *applied_);
    doubtful_ |= !live_->change(next.endpoints, applied_->endpoints);
    rejudge_connections();
  });
  if (auto done = rules_.add_tables(next); !done) return tl::unexpected(done.error());
  SLUICE_FAILURE_POINT("in_place.tables_added");
  auto peers = rules_.write_slots(slot, next);
  if (!peers) return peers;
  SLUICE_FAILURE_POINT("in_place.peers_written");
  auto endpoints = live_->change(applied_->endpoints, next.endpoints);
  if (!endpoints) return endpoints;
  SLUICE_FAILURE_POINT("in_place.endpoints_written");
  undo.dismiss();
  const bool changed = *peers || *endpoints;
  if (changed) rejudge_connections();
  SLUICE_FAULT_POINT("in_place.published");
  return changed;
}

void Firewall::rejudge_connections() {
  parts_.live.publish(parts_.live.generation(), parts_.live.epoch() + 1);
  left_before_ = parts_.grace.begin();
}

Result<GenerationStatus> Firewall::apply_generation(const policy::Ruleset& next,
                                                    const std::function<CheckPackets()>& check_packets) {
  leftovers_ = true;
  GenerationStatus status;
  status.number = next_number_;
  status.slot = Generation::slot_of(next_number_);
  Stopwatch watch;
  SLUICE_FAILURE_POINT("generation.begun");
  const auto slots = free_slots(status.slot);
  if (!slots) return tl::unexpected(slots.error());
  SLUICE_FAILURE_POINT("generation.slot_freed");
  auto packets = check_packets ? check_packets() : CheckPackets();
  status.check_packets = static_cast<std::uint32_t>(packets.size());
  status.build = watch.lap();

  Guard smaller([&] { rules_.give_room_back(); });
  if (!rules_.has_room_for_peers(next)) {
    // Without it, what does not fit is left out.
    if (auto made = rules_.make_room(next); !made) spdlog::warn("{}", made.error().message);
  }
  if (auto done = rules_.add_tables(next); !done) return tl::unexpected(done.error());
  SLUICE_FAILURE_POINT("generation.tables_added");
  if (auto done = rules_.write_slots(*slots, next); !done) return tl::unexpected(done.error());
  SLUICE_FAILURE_POINT("generation.slot_written");
  status.fill = watch.lap();
  // The definition knows no limit.
  std::erase_if(packets, [&](const CheckPacket& packet) {
    return rules_.is_left_out(Address::from_abi(packet.probe.src)) ||
           rules_.is_left_out(Address::from_abi(packet.probe.dst));
  });

  auto candidate = Generation::load(parts_.objects, next_number_, Features::of(next), rules_.peers());
  if (!candidate) return tl::unexpected(candidate.error());
  status.program_id = candidate->program().id;
  status.load = watch.lap();
  SLUICE_FAILURE_POINT("generation.loaded");

  if (auto done = candidate->fill(next.endpoints); !done) return tl::unexpected(done.error());
  status.fill += watch.lap();
  SLUICE_FAILURE_POINT("generation.filled");

  if (auto done = check(*candidate, packets); !done) return tl::unexpected(done.error());
  SLUICE_FAILURE_POINT("generation.candidate_cleared");
  status.check = watch.lap();

  if (auto done = swap(std::move(*candidate)); !done) return tl::unexpected(done.error());
  smaller.dismiss();
  rules_.keep_room();
  status.swap = watch.lap();
  status.swapped_at = std::chrono::system_clock::now();
  return status;
}

std::uint32_t Firewall::slot_in_force() const {
  return live_ ? live_->slot() : Generation::slot_of(parts_.live.generation());
}

// A packet may still be inside the generation that had the slot. The answer: the slot, and others that no
// packet is inside of either, such as all but one after a start.
Result<RuleMaps::Slots> Firewall::free_slots(std::uint32_t slot) {
  if (auto done = parts_.grace.wait(left_slot_[slot]); !done) return tl::unexpected(done.error());
  if (auto done = parts_.history.recycle(slot); !done) return tl::unexpected(done.error());
  RuleMaps::Slots slots;
  for (std::size_t each = 0; each < slots.size(); ++each)
    slots[each] = each != slot_in_force() && left_slot_[each] <= left_slot_[slot];
  return slots;
}

Result<void> Firewall::check(const Generation& candidate, const CheckPackets& packets) {
  if (packets.empty()) return {};
  const auto& modules = parts_.maps.modules;
  auto done =
      modules.update(SLUICE_MODULE_CANDIDATE, static_cast<std::uint32_t>(candidate.program().fd.get()));
  if (!done) return done;
  SLUICE_FAULT_POINT("generation.candidate_set");
  done = check_candidate(parts_.probe, packets);
  auto cleared = modules.erase(SLUICE_MODULE_CANDIDATE);
  if (!cleared && done) return tl::unexpected(cleared.error());
  return done;
}

Result<void> Firewall::swap(Generation candidate) {
  const auto number = candidate.number();
  const auto& pins = parts_.pins;
  Guard unpin([&] { pins.remove_generation(number); });
  if (auto done = candidate.pin(pins); !done) return done;
  SLUICE_FAILURE_POINT("generation.pinned");
  // The flip: one write. After it nothing can fail.
  const auto fd = static_cast<std::uint32_t>(candidate.program().fd.get());
  if (auto done = parts_.maps.modules.update(SLUICE_MODULE_FIREWALL, fd); !done) return done;
  SLUICE_FAULT_POINT("generation.flipped");
  parts_.live.publish(number, 0);
  SLUICE_FAULT_POINT("generation.published");
  unpin.dismiss();

  live_ = std::move(candidate);
  doubtful_ = false;
  next_number_ = number + 1;
  left_before_ = parts_.grace.begin();
  left_slot_[Generation::slot_of(number - 1)] = left_before_;
  for (const auto old : pins.generations())
    if (old != number) pins.remove_generation(old);
  SLUICE_FAULT_POINT("generation.old_unpinned");
  return {};
}

Result<void> Firewall::collect() {
  // Before the first apply() nobody knows what the generation in force looks for.
  if (!live_ || !leftovers_) return {};
  if (auto done = parts_.grace.wait(left_before_); !done) return done;
  SLUICE_FAILURE_POINT("collect.waited");
  if (auto done = rules_.retire_all_but(*applied_); !done) return done;
  // What was left out may have room by now, but that is for the slot in force to learn first.
  if (rules_.left_out() == 0) {
    auto written = rules_.write_slots(RuleMaps::Slots().set().reset(slot_in_force()), *applied_);
    if (!written) return tl::unexpected(written.error());
  }
  SLUICE_FAILURE_POINT("collect.slots_written");
  leftovers_ = false;
  return {};
}

Result<void> Firewall::audit(std::vector<std::string>& differences) const {
  if (!live_) return {};
  auto in_force = program_in_force();
  if (!in_force) return tl::unexpected(in_force.error());
  if (*in_force != live_->program().id)
    differences.push_back(
        fmt::format("modules: the firewall's slot has program {}, not {}", *in_force, live_->program().id));
  if (parts_.live.generation() != live_->number())
    differences.push_back(
        fmt::format("live: generation {} is published, not {}", parts_.live.generation(), live_->number()));
  if (auto done = live_->audit(applied_->endpoints, differences); !done) return done;
  return rules_.audit(live_->slot(), *applied_, differences);
}

}  // namespace sluice::datapath
