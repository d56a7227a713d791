// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/intake.h"

#include <utility>
#include <variant>

namespace sluice::controller {

namespace {

std::size_t items_of(const model::NetworkPolicy& policy) {
  std::size_t items = 1;
  for (const auto* rules : {&policy.ingress, &policy.egress}) {
    for (const auto& rule : *rules) {
      items += 1 + rule.peers.size() + rule.ports.size();
      for (const auto& peer : rule.peers) items += peer.ip_block ? peer.ip_block->except.size() : 0;
    }
  }
  return items;
}

// Of the policy that the event is of; none: it is of something else.
std::optional<model::ObjectKey> policy_of(const Event& event) {
  std::optional<model::ObjectKey> key;
  if (const auto* object = std::get_if<model::Object>(&event)) key = model::key_of(*object);
  if (const auto* gone = std::get_if<model::ObjectKey>(&event)) key = *gone;
  return key && key->kind == model::Kind::kNetworkPolicy ? key : std::nullopt;
}

std::size_t items_of(const Event& event) {
  const auto* object = std::get_if<model::Object>(&event);
  const auto* policy = object == nullptr ? nullptr : std::get_if<model::NetworkPolicy>(object);
  return policy == nullptr ? 1 : items_of(*policy);
}

}  // namespace

void Intake::add(Event event) {
  if (const auto* lists = std::get_if<source::FullState>(&event);
      lists != nullptr && lists->contains(model::Kind::kNetworkPolicy)) {
    waiting_.clear();
    items_ = 0;
  }
  const auto policy = policy_of(event);
  // Before all is known no rules are made, so nobody waits for them.
  if (!policy || !state_.synced()) return state_.apply(std::move(event));
  const auto items = items_of(event);
  items_ += items;
  auto& queue = waiting_[policy->ns];
  // The number stays: who waits for the version before waits for this one.
  if (!queue.empty() && policy_of(queue.back().event) == policy) {
    items_ -= std::exchange(queue.back().items, items);
    queue.back().event = std::move(event);
  } else {
    queue.push_back({++told_, items, std::move(event)});
  }
}

// What the policy was costs, too: its rules are to be taken away.
std::size_t Intake::cost(const Waiting& next) const {
  const auto& known = state_.cluster().policies;
  const auto key = policy_of(next.event);
  const auto before = known.find(key->ns + "/" + key->name);
  return next.items + (before == known.end() ? 0 : items_of(*before->second));
}

void Intake::take(Queue& queue) {
  items_ -= queue.front().items;
  state_.apply(std::move(queue.front().event));
  queue.pop_front();
}

void Intake::take_all() {
  for (auto& [ns, queue] : waiting_)
    while (!queue.empty()) take(queue);
}

void Intake::advance(bool busy, Clock::time_point now) {
  if (items_ > kMostItems) take_all();
  for (auto& [ns, queue] : waiting_) {
    std::size_t taken = 0;
    while (!queue.empty() && (taken += cost(queue.front())) <= kFewItems) take(queue);
  }
  const auto is_empty = [](const auto& entry) { return entry.second.empty(); };
  std::erase_if(waiting_, is_empty);
  if (waiting_.empty()) return since_.reset();
  // After a large one, too, the time counts from the next turn on: however long it took to make rules of it.
  if (!since_) since_ = now;
  if (busy && now < *since_ + kPatience) return;
  // Namespaces take turns.
  auto next = waiting_.upper_bound(last_);
  if (next == waiting_.end()) next = waiting_.begin();
  last_ = next->first;
  take(next->second);
  std::erase_if(waiting_, is_empty);
  since_.reset();
}

std::uint64_t Intake::last_of(const std::string& ns) const {
  const auto queue = waiting_.find(ns);
  return queue == waiting_.end() ? 0 : queue->second.back().number;
}

bool Intake::waits(const std::string& ns, std::uint64_t number) const {
  const auto queue = waiting_.find(ns);
  return queue != waiting_.end() && queue->second.front().number <= number;
}

}  // namespace sluice::controller
