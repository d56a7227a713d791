// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "common/fd.h"
#include "common/result.h"

namespace sluice {

// Tells, from a thread of its own, that links of this network namespace have other root queueing disciplines.
// Which, the kernel's list says: messages may be lost when there are too many, and that is told too.
class QdiscWatch {
 public:
  [[nodiscard]] static Result<std::unique_ptr<QdiscWatch>> start(std::function<void()> changed);
  QdiscWatch(const QdiscWatch&) = delete;
  QdiscWatch& operator=(const QdiscWatch&) = delete;
  ~QdiscWatch();

 private:
  QdiscWatch(Fd messages, Fd stop, std::function<void()> changed);
  void work() const;
  [[nodiscard]] bool take_messages() const;

  Fd messages_, stop_;
  std::function<void()> changed_;
  std::thread thread_;
};

}  // namespace sluice
