// SPDX-License-Identifier: Apache-2.0
// Between what the source tells and the cluster's state: who waits for whom.
//
// - What costs little goes into the state at once. A policy of many blocks waits, and they go one at a time:
//   rules are made between two of them, so that an ADD, or a change of somebody else, waits for one at most.
// - Policies of one namespace keep their order, whatever they cost: a policy that takes the place of another
//   is in force before that one goes. A namespace has its own policies alone to wait for.
// - A list is all that there is of its kind, so it goes at once, and what waited of that kind is over. So the
//   first rules of all are made of all policies.
// - Of what waits last in a namespace the newest version counts alone. Where very much waits all goes at
//   once: what waits takes memory, and the state has each policy once.
// - A policy that waits is not in force. A pod must not come up without it: an ADD waits until those of the
//   pod's namespace that were told before it are in the state.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "daemon/controller/cluster_state.h"

namespace sluice::controller {

class Intake {
 public:
  using Clock = std::chrono::steady_clock;
  // The cost of a policy goes by its items: rules, peers, exceptions and ports. As many items of a namespace
  // cost little in one turn.
  static constexpr std::size_t kFewItems = 2000;
  static constexpr std::size_t kMostItems = 500'000;  // that wait
  // A large policy waits no longer than this for a turn in which nothing else is to be done.
  static constexpr Clock::duration kPatience = std::chrono::milliseconds(100);

  explicit Intake(ClusterState& state) : state_(state) {}
  // In the order in which they are told.
  void add(Event event);
  // A turn: what may go into the state now goes. `busy`: somebody waits for what else this turn does.
  void advance(bool busy, Clock::time_point now);

  [[nodiscard]] bool waiting() const { return !waiting_.empty(); }
  // The number of the last of the namespace's policies that wait; 0: none waits.
  [[nodiscard]] std::uint64_t last_of(const std::string& ns) const;
  // Whether one of them waits with this number or a lower one.
  [[nodiscard]] bool waits(const std::string& ns, std::uint64_t number) const;

 private:
  struct Waiting {
    std::uint64_t number;
    std::size_t items;
    Event event;
  };
  using Queue = std::deque<Waiting>;

  [[nodiscard]] std::size_t cost(const Waiting& next) const;
  void take(Queue& queue);
  void take_all();

  ClusterState& state_;
  std::map<std::string, Queue> waiting_;  // policies, by namespace; none is empty
  std::uint64_t told_ = 0;
  std::size_t items_ = 0;
  std::string last_;                        // the namespace that a large one was taken of
  std::optional<Clock::time_point> since_;  // turns take no large one though some wait
};

}  // namespace sluice::controller
