// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/model/protocol.h"

namespace sluice::model {

struct ContainerPort {
  std::string name;  // never empty: ports without a name are left out
  Protocol protocol = Protocol::kTcp;
  std::uint16_t port = 0;
  auto operator<=>(const ContainerPort&) const = default;
};

// The ports of a pod, sorted and distinct. A value whose copies share their memory, as Labels: the pods of
// a Deployment have the same.
class ContainerPorts {
 public:
  using List = std::vector<ContainerPort>;

  ContainerPorts() = default;
  ContainerPorts(std::initializer_list<ContainerPort> ports) : ContainerPorts(List(ports)) {}
  ContainerPorts(List ports) {
    std::ranges::sort(ports);
    ports.erase(std::unique(ports.begin(), ports.end()), ports.end());
    ports.shrink_to_fit();
    if (!ports.empty()) list_ = std::make_shared<const List>(std::move(ports));
  }

  [[nodiscard]] const List& list() const {
    static const List kNone;
    return list_ ? *list_ : kNone;
  }
  [[nodiscard]] List::const_iterator begin() const { return list().begin(); }
  [[nodiscard]] List::const_iterator end() const { return list().end(); }
  [[nodiscard]] const ContainerPort& operator[](std::size_t index) const { return list()[index]; }
  [[nodiscard]] std::size_t size() const { return list().size(); }
  [[nodiscard]] bool empty() const { return list().empty(); }
  // Nobody else has this memory.
  [[nodiscard]] bool alone() const { return list_.use_count() <= 1; }
  [[nodiscard]] bool shares_with(const ContainerPorts& other) const { return list_ == other.list_; }

  bool operator==(const ContainerPorts& other) const {
    return list_ == other.list_ || list() == other.list();
  }
  std::strong_ordering operator<=>(const ContainerPorts& other) const {
    return list_ == other.list_ ? std::strong_ordering::equal : list() <=> other.list();
  }

 private:
  std::shared_ptr<const List> list_;  // none: no ports
};

}  // namespace sluice::model
