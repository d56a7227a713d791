// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/tables.h"

#include <algorithm>
#include <iterator>

namespace sluice::policy {

namespace {

constexpr std::size_t kWordsOfRow = SLUICE_ROW_BITS / 64;

struct Ports {
  bool every = false;  // of every protocol
  std::vector<PortSpan> spans;
};

using PortsByPeer = std::map<std::pair<AtomId, AtomId>, Ports>;  // by (peer, named port)

const std::set<std::uint16_t>& numbers_of(const NameUse& use, const Tables::NamedPorts& named_ports) {
  static const std::set<std::uint16_t> none;
  const auto found = named_ports.find(use);
  return found == named_ports.end() ? none : found->second;
}

void add_rule(const CompiledRule& rule, int direction, const Tables::NamedPorts& named_ports, Atoms& atoms,
              PortsByPeer& by_peer) {
  for (const AtomId peer : rule.peers) {
    Ports& ports = by_peer[{peer, kEveryone}];
    ports.every |= rule.ports.every;
    ports.spans.insert(ports.spans.end(), rule.ports.spans.begin(), rule.ports.spans.end());
    for (const auto& name : rule.ports.names) {
      const AtomId resolved_by = direction == SLUICE_INGRESS ? kEveryone : peer;
      for (const std::uint16_t number : numbers_of({resolved_by, name}, named_ports)) {
        const PortSpan span{name.protocol, number, number};
        if (direction == SLUICE_INGRESS) {
          ports.spans.push_back(span);
        } else {
          const AtomId named_port = atoms.number(NamedPort{name.name, name.protocol, number});
          by_peer[{peer, named_port}].spans.push_back(span);
        }
      }
    }
  }
}

std::size_t words_for(std::uint32_t class_count) { return (class_count + 63) / 64; }

std::vector<std::uint64_t> bits_of(const Ports& ports, const std::vector<std::uint32_t>& classes,
                                   std::uint32_t class_count) {
  std::vector<std::uint64_t> bits(words_for(class_count));
  const auto set = [&](std::uint32_t port_class) {
    bits[port_class / 64] |= std::uint64_t{1} << (port_class % 64);
  };
  if (ports.every) {
    for (std::uint32_t port_class = 0; port_class < class_count; ++port_class) set(port_class);
  } else {
    std::ranges::for_each(classes, set);
  }
  return bits;
}

bool admits_anybody(const TableEntry& entry) {
  return entry.peer == kEveryone && entry.named_port == kEveryone;
}

}  // namespace

std::vector<std::uint32_t> classes_of(const TableEntry& entry, const ClassIndex& index) {
  const auto with = [&](AtomId atom) -> const std::vector<std::uint32_t>& {
    static const std::vector<std::uint32_t> none;
    const auto found = index.with_atom.find(atom);
    return found == index.with_atom.end() ? none : found->second;
  };
  if (admits_anybody(entry)) return {};
  if (entry.named_port == kEveryone) return with(entry.peer);
  if (entry.peer == kEveryone) return with(entry.named_port);
  std::vector<std::uint32_t> both;
  std::ranges::set_intersection(with(entry.peer), with(entry.named_port), std::back_inserter(both));
  return both;
}

std::optional<std::uint32_t> Tables::number_of(int direction,
                                               const std::vector<const CompiledPolicy*>& policies,
                                               const NamedPorts& named_ports, Atoms& atoms) {
  Key key{static_cast<std::uint32_t>(direction)};
  std::vector<const CompiledPolicy*> isolating;
  for (const auto* policy : policies) {
    if (!policy->isolates(direction) || policy->refused) continue;
    isolating.push_back(policy);
    key.push_back(policy->serial);
  }
  // Serials end where this list begins: it begins with how many there are.
  key.insert(key.begin(), static_cast<std::uint32_t>(isolating.size()));
  for (const auto* policy : isolating) {
    for (const auto& use : policy->name_uses[direction]) {
      const auto& numbers = numbers_of(use, named_ports);
      key.push_back(static_cast<std::uint32_t>(numbers.size()));
      key.insert(key.end(), numbers.begin(), numbers.end());
    }
  }
  if (const auto found = cached_.find(key); found != cached_.end()) return found->second;
  const auto before = cached_before_.find(key);
  const auto number = before != cached_before_.end() ? std::optional(before->second)
                                                     : build(direction, isolating, named_ports, atoms);
  if (number) cached_.emplace(std::move(key), *number);
  return number;
}

std::optional<std::uint32_t> Tables::build(int direction, const std::vector<const CompiledPolicy*>& policies,
                                           const NamedPorts& named_ports, Atoms& atoms) {
  PortsByPeer by_peer;
  std::uint64_t peer_ports = 0;
  for (const auto* policy : policies) {
    peer_ports += policy->demand.peer_ports + policy->demand.named_ports;
    if (peer_ports > most_words_) return std::nullopt;
    for (const auto& rule : policy->rules[direction]) add_rule(rule, direction, named_ports, atoms, by_peer);
  }
  // Who admits everything to everyone has nothing to add.
  const auto everyone = by_peer.find({kEveryone, kEveryone});
  if (everyone != by_peer.end() && everyone->second.every) by_peer = {{everyone->first, Ports{true, {}}}};

  std::vector<std::vector<PortSpan>> groups;
  for (auto& [peer, ports] : by_peer) {
    if (ports.every) ports.spans.clear();  // they make no difference
    groups.push_back(ports.spans);
  }
  if (classification_cost(groups) > most_words_) return std::nullopt;
  PortClasses classes = classify_ports(groups);
  if (by_peer.size() * words_for(classes.count) > most_words_) return std::nullopt;
  built_ += by_peer.size() * words_for(classes.count) + classes.prefixes.size();

  Table table;
  if (classes.runs.size() <= SLUICE_PORT_RUNS)
    table.port_runs = std::move(classes.runs);
  else
    table.port_table = port_tables_.number(classes.prefixes);
  std::size_t group = 0;
  for (const auto& [peer, ports] : by_peer) {
    const auto& of_group = classes.of_group[group++];
    if (ports.every || !of_group.empty())
      table.entries.push_back({peer.first, peer.second, bits_of(ports, of_group, classes.count)});
  }
  return tables_.number(table);
}

std::uint64_t Tables::words(std::uint32_t table) const {
  const auto& entries = tables_.content(table).entries;
  return entries.empty() ? 0 : entries.size() * entries.front().bits.size();
}

std::uint64_t Tables::pages(std::uint32_t table) const {
  const auto& entries = tables_.content(table).entries;
  return entries.empty() ? 0 : (entries.front().bits.size() + kWordsOfRow - 1) / kWordsOfRow;
}

std::uint64_t Tables::admissions(std::uint32_t table, const ClassIndex& classes) const {
  std::uint64_t count = 0;
  for (const auto& entry : tables_.content(table).entries) count += classes_of(entry, classes).size();
  return count * pages(table);
}

void Tables::add_port_classes(std::uint32_t port_table,
                              std::map<PortKey, std::uint32_t>& port_classes) const {
  if (port_table == 0) return;
  for (const auto& prefix : port_tables_.content(port_table))
    port_classes.emplace(PortKey{port_table, prefix.protocol, prefix.port, prefix.bits}, prefix.port_class);
}

// Sparse: a class is in a row of its own only where it is admitted at more than anybody is.
void Tables::add_rows(std::uint32_t table, const ClassIndex& classes, std::map<RowKey, Row>& rows) const {
  const auto& entries = tables_.content(table).entries;
  if (entries.empty()) return;
  std::vector<std::uint64_t> anybody(entries.front().bits.size());
  std::vector<std::pair<std::uint32_t, const TableEntry*>> admitted;  // class -> what admits it
  for (const auto& entry : entries) {
    if (admits_anybody(entry)) {
      anybody = entry.bits;
      continue;
    }
    for (const std::uint32_t peer_class : classes_of(entry, classes))
      admitted.emplace_back(peer_class, &entry);
  }
  std::ranges::sort(admitted);

  const auto page_of = [&](const std::vector<std::uint64_t>& bits, std::size_t word) {
    Row row{};
    std::copy_n(bits.begin() + static_cast<std::ptrdiff_t>(word), std::min(kWordsOfRow, bits.size() - word),
                row.begin());
    return row;
  };
  const auto add = [&](std::uint32_t peer_class, const std::vector<std::uint64_t>& bits,
                       const auto& implied) {
    for (std::size_t word = 0; word < bits.size(); word += kWordsOfRow) {
      const Row row = page_of(bits, word);
      if (row != implied(word))
        rows.emplace_hint(rows.end(),
                          RowKey{table, peer_class, static_cast<std::uint32_t>(word / kWordsOfRow)}, row);
    }
  };
  for (auto it = admitted.begin(); it != admitted.end();) {
    const std::uint32_t peer_class = it->first;
    std::vector<std::uint64_t> bits = anybody;
    for (; it != admitted.end() && it->first == peer_class; ++it) {
      for (std::size_t word = 0; word < bits.size(); ++word) bits[word] |= it->second->bits[word];
    }
    add(peer_class, bits, [&](std::size_t word) { return page_of(anybody, word); });
  }
  add(SLUICE_NO_CLASS, anybody, [](std::size_t) { return Row{}; });
}

void Tables::sweep(const std::unordered_set<std::uint32_t>& tables,
                   const std::unordered_set<std::uint32_t>& port_tables, unsigned kept) {
  tables_.sweep(tables, kept);
  port_tables_.sweep(port_tables, kept);
}

}  // namespace sluice::policy
