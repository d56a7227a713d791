// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/live.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace sluice::datapath {

namespace {
std::size_t page() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
}  // namespace

Result<LiveStamp> LiveStamp::map(const RawMap& live) {
  void* memory = mmap(nullptr, page(), PROT_READ | PROT_WRITE, MAP_SHARED, live.fd(), 0);
  if (memory == MAP_FAILED) return failure_errno(errno, "map 'live' into memory");
  LiveStamp made;
  made.live_.reset(static_cast<sluice_live*>(memory));
  return made;
}

void LiveStamp::Unmap::operator()(sluice_live* live) const { munmap(live, page()); }

std::uint64_t LiveStamp::stamp() const {
  return std::atomic_ref<decltype(sluice_live::stamp)>(live_->stamp).load(std::memory_order_acquire);
}

void LiveStamp::publish(std::uint32_t generation, std::uint32_t epoch) const {
  std::atomic_ref<decltype(sluice_live::stamp)>(live_->stamp)
      .store(SLUICE_STAMP(generation, epoch), std::memory_order_release);
}

}  // namespace sluice::datapath
