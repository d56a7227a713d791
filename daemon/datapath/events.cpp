// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/events.h"

#include <bpf/libbpf.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace sluice::datapath {

struct Events::Subscriber {
  std::uint32_t flags = 0;
  Sink sink;
  // Held during a call, so that taking the sink away waits for the call to end; recursive, because a sink may
  // give its own handle up.
  std::recursive_mutex mutex;
};

// Shared with the handles, which may outlive the Events.
struct Events::Subscribers {
  std::mutex mutex;
  std::vector<std::shared_ptr<Subscriber>> list;
  std::shared_ptr<const Settings> settings;

  [[nodiscard]] std::vector<std::shared_ptr<Subscriber>> copy() {
    const std::lock_guard lock(mutex);
    return list;
  }
  [[nodiscard]] Result<void> add(const std::shared_ptr<Subscriber>& subscriber) {
    const std::lock_guard lock(mutex);
    list.push_back(subscriber);
    return announce();
  }
  void remove(const std::shared_ptr<Subscriber>& subscriber) {
    {
      const std::lock_guard lock(subscriber->mutex);
      subscriber->sink = nullptr;
    }
    const std::lock_guard lock(mutex);
    std::erase(list, subscriber);
    // If it fails, the programs write events that nobody reads until the next change.
    static_cast<void>(announce());
  }

 private:
  [[nodiscard]] Result<void> announce() const {
    std::uint32_t wanted = 0;
    for (const auto& each : list) wanted |= each->flags;
    return settings->change([&](sluice_config& config) { config.monitor = wanted; });
  }
};

Events::Events(const RawMap& ring, std::shared_ptr<const Settings> settings)
    : ring_(ring), subscribers_(std::make_shared<Subscribers>()) {
  subscribers_->settings = std::move(settings);
}

Events::~Events() {
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void Events::FreeRing::operator()(ring_buffer* ring) const { ring_buffer__free(ring); }

Result<std::shared_ptr<void>> Events::monitor(std::uint32_t flags, Sink sink) {
  if (auto started = start(); !started) return tl::unexpected(started.error());
  auto subscriber = std::make_shared<Subscriber>();
  subscriber->flags = flags;
  subscriber->sink = std::move(sink);
  if (auto added = subscribers_->add(subscriber); !added) {
    subscribers_->remove(subscriber);
    return tl::unexpected(added.error());
  }
  auto* raw = subscriber.get();
  return std::shared_ptr<void>(
      raw, [subscribers = subscribers_, subscriber](void*) { subscribers->remove(subscriber); });
}

Result<void> Events::start() {
  const std::lock_guard lock(start_mutex_);
  if (thread_.joinable()) return {};
  reader_.reset(ring_buffer__new(ring_.fd(), on_event, subscribers_.get(), nullptr));
  if (!reader_) return failure_errno(errno, "read map 'events'");
  stop_.reset(eventfd(0, EFD_CLOEXEC));
  if (!stop_) return failure_errno(errno, "make an eventfd");
  thread_ = std::thread([this] { run(); });
  return {};
}

void Events::run() const {
  std::array<pollfd, 2> waiting{
      {{ring_buffer__epoll_fd(reader_.get()), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  while (waiting[1].revents == 0) {
    if (poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) return;
    if (waiting[0].revents != 0) ring_buffer__consume(reader_.get());
  }
}

int Events::on_event(void* context, void* data, std::size_t size) {
  sluice_event event{};
  if (size < sizeof event) return 0;
  std::memcpy(&event, data, sizeof event);
  const std::uint32_t kind = event.kind == SLUICE_EVENT_DROP ? SLUICE_MONITOR_DROPS : SLUICE_MONITOR_VERDICTS;
  for (const auto& subscriber : static_cast<Subscribers*>(context)->copy()) {
    const std::lock_guard lock(subscriber->mutex);
    if (subscriber->sink && (subscriber->flags & kind) != 0) subscriber->sink(event);
  }
  return 0;
}

}  // namespace sluice::datapath
