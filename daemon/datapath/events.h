// SPDX-License-Identifier: Apache-2.0
// Events of the programs, for whoever asks while they ask: the programs write none that nobody wants.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "bpf/abi.h"
#include "common/fd.h"
#include "common/result.h"
#include "daemon/datapath/map.h"
#include "daemon/datapath/settings.h"

struct ring_buffer;

namespace sluice::datapath {

class Events {
 public:
  using Sink = std::function<void(const sluice_event&)>;

  Events(const RawMap& ring, std::shared_ptr<const Settings> settings);
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  ~Events();

  // Thread-safe. Once the handle is gone, `sink` is not called any more. The handle may outlive this object.
  [[nodiscard]] Result<std::shared_ptr<void>> monitor(std::uint32_t flags, Sink sink);

 private:
  struct Subscriber;
  struct Subscribers;
  [[nodiscard]] Result<void> start();
  void run() const;
  static int on_event(void* context, void* data, std::size_t size);

  const RawMap& ring_;
  std::shared_ptr<Subscribers> subscribers_;
  std::mutex start_mutex_;
  struct FreeRing {
    void operator()(ring_buffer* ring) const;
  };
  std::unique_ptr<ring_buffer, FreeRing> reader_;
  Fd stop_;
  std::thread thread_;
};

}  // namespace sluice::datapath
