// SPDX-License-Identifier: Apache-2.0
#include "daemon/install/watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "daemon/install/folder.h"

namespace sluice::install {

Result<std::unique_ptr<FolderWatch>> FolderWatch::start(const std::vector<std::string>& folders,
                                                        std::function<void()> changed) {
  Fd events(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!events) return failure_errno(errno, "inotify");
  constexpr std::uint32_t kWhat =
      IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ATTRIB;
  for (const auto& folder : folders)
    if (inotify_add_watch(events.get(), folder.c_str(), kWhat) < 0)
      return failure_errno(errno, "watch " + folder);
  Fd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop) return failure_errno(errno, "eventfd");
  return std::unique_ptr<FolderWatch>(
      new FolderWatch(std::move(events), std::move(stop), std::move(changed)));
}

FolderWatch::FolderWatch(Fd events, Fd stop, std::function<void()> changed)
    : events_(std::move(events)),
      stop_(std::move(stop)),
      changed_(std::move(changed)),
      thread_([this] { work(); }) {}

FolderWatch::~FolderWatch() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

bool FolderWatch::wait(bool for_events, int milliseconds) const {
  std::array<pollfd, 2> fds{{{stop_.get(), POLLIN, 0}, {events_.get(), POLLIN, 0}}};
  while (poll(fds.data(), for_events ? 2 : 1, milliseconds) < 0 && errno == EINTR) {
  }
  return fds[0].revents == 0;
}

// Which file it is, a look tells. An event without a name is about a folder, or tells that some are lost.
bool FolderWatch::take_events() const {
  bool counts = false;
  alignas(inotify_event) std::array<char, 4096> buffer;
  for (ssize_t size = 0; (size = read(events_.get(), buffer.data(), buffer.size())) > 0;)
    for (const char* at = buffer.data(); at < buffer.data() + size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      counts |= event->len == 0 || !is_unfinished(event->name);
      at += sizeof(inotify_event) + event->len;
    }
  return counts;
}

void FolderWatch::work() const {
  constexpr int kPauseMs = 1000;
  while (wait(true, -1)) {
    if (take_events()) changed_();
    if (!wait(false, kPauseMs)) return;
  }
}

}  // namespace sluice::install
