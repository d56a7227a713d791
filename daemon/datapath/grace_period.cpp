// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/grace_period.h"

#include <bpf/bpf.h>

#include <cerrno>

namespace sluice::datapath {

Result<std::unique_ptr<GracePeriod>> GracePeriod::make() {
  constexpr auto kSize = sizeof(std::uint32_t);
  Fd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "grace_inner", kSize, kSize, 1, nullptr));
  if (!inner) return failure_errno(errno, "make a map to wait for packets in flight");
  LIBBPF_OPTS(bpf_map_create_opts, options);
  options.inner_map_fd = static_cast<std::uint32_t>(inner.get());
  Fd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "grace_outer", kSize, kSize, 1, &options));
  if (!outer) return failure_errno(errno, "make a map of maps to wait for packets in flight");
  return std::unique_ptr<GracePeriod>(new GracePeriod(std::move(inner), std::move(outer)));
}

GracePeriod::GracePeriod(Fd inner, Fd outer)
    : inner_(std::move(inner)), outer_(std::move(outer)), thread_([this] { loop(); }) {}

GracePeriod::~GracePeriod() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  asked_changed_.notify_one();
  thread_.join();
}

GracePeriod::Ticket GracePeriod::begin() {
  const std::lock_guard lock(mutex_);
  asked_changed_.notify_one();
  return ++asked_;
}

Result<void> GracePeriod::wait(Ticket ticket) {
  std::unique_lock lock(mutex_);
  if (passed_ >= ticket) return {};
  if (tried_ >= ticket) {  // and failed: once more
    ticket = ++asked_;
    asked_changed_.notify_one();
  }
  tried_changed_.wait(lock, [&] { return tried_ >= ticket; });
  if (passed_ >= ticket) return {};
  return tl::unexpected(error_);
}

void GracePeriod::loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    asked_changed_.wait(lock, [this] { return stopping_ || asked_ > tried_; });
    if (stopping_) return;
    const auto covered = asked_;
    lock.unlock();
    auto done = pass();
    lock.lock();
    tried_ = covered;
    if (done)
      passed_ = covered;
    else
      error_ = done.error();
    tried_changed_.notify_all();
  }
}

// The kernel does this for user space in one place: an update of a map of maps returns only after it.
Result<void> GracePeriod::pass() const {
  const std::uint32_t index = 0;
  const int inner = inner_.get();
  if (const int code = bpf_map_update_elem(outer_.get(), &index, &inner, 0); code < 0)
    return failure_errno(code, "wait for packets in flight");
  return {};
}

}  // namespace sluice::datapath
