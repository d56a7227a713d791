// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/yaml/yaml_source.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "daemon/source/yaml/folder.h"

namespace sluice::source {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// IN_CREATE is for links alone, which come complete; a file that is created is told of when it is closed.
constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE |
                                  IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
// Without any event the folder is still looked at: what a symbolic link points to may change unseen.
constexpr auto kIdle = 10s;
constexpr auto kFolderGone = 1s;
// Several files are often replaced at once.
constexpr auto kDebounce = 10ms;

bool is_complete(const std::string& path) {
  struct stat about {};
  return ::lstat(path.c_str(), &about) != 0 || S_ISLNK(about.st_mode) || about.st_nlink > 1;
}

int milliseconds(Clock::duration duration) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

}  // namespace

YamlSource::YamlSource(Options options) : options_(std::move(options)) {
  status_.description = "YAML folder " + options_.folder;
}

YamlSource::~YamlSource() { stop(); }

Result<std::unique_ptr<YamlSource>> YamlSource::make(Options options) {
  if (options.folder.empty()) return failure("the YAML source needs a folder");
  std::unique_ptr<YamlSource> source(new YamlSource(std::move(options)));
  source->inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!source->inotify_) return failure_errno(errno, "inotify (see fs.inotify.max_user_instances)");
  source->stop_event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!source->stop_event_) return failure_errno(errno, "eventfd");
  return source;
}

Result<void> YamlSource::watch_folder() {
  watch_ = ::inotify_add_watch(inotify_.get(), options_.folder.c_str(), kEvents);
  if (watch_ >= 0) return {};
  return failure_errno(errno, "YAML folder " + options_.folder);
}

Result<void> YamlSource::start(Sink& sink) {
  if (thread_.joinable()) return failure("the source runs already");
  if (auto watched = watch_folder(); !watched) return watched;
  thread_ = std::thread([this, &sink] { run(sink); });
  return {};
}

void YamlSource::stop() {
  if (!thread_.joinable()) return;
  ::eventfd_write(stop_event_.get(), 1);
  thread_.join();
  eventfd_t count = 0;
  ::eventfd_read(stop_event_.get(), &count);
  const std::lock_guard lock(mutex_);
  status_.connected = false;
}

Status YamlSource::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void YamlSource::run(Sink& sink) {
  Folder folder(options_.folder);
  do {
    try {
      scan(folder, sink);
    } catch (const std::exception& error) {
      lost(error.what());
    }
  } while (wait());
}

void YamlSource::scan(Folder& folder, Sink& sink) {
  if (watch_ < 0) {
    // Watched before it is read, so that no change falls between.
    if (auto watched = watch_folder(); !watched) return lost(watched.error().message);
    spdlog::info("YAML folder {} is back", options_.folder);
  }
  const auto scanned = folder.scan(sink);
  if (!scanned) return lost(scanned.error().message);
  const std::lock_guard lock(mutex_);
  ++status_.lists;
  status_.events += scanned->changed_kinds;
  status_.errors += scanned->problems.empty() ? 0 : 1;
  status_.last_error = scanned->problems.empty() ? std::string() : scanned->problems.front();
  status_.rejected = scanned->problems;
  status_.connected = !scanned->held && status_.connected;
  if (scanned->held) return;
  if (!status_.connected) ++status_.watches;
  status_.connected = true;
}

void YamlSource::lost(const std::string& error) {
  const std::lock_guard lock(mutex_);
  ++status_.errors;
  if (status_.last_error != error) spdlog::warn("{}; what is known stays in force", error);
  status_.last_error = error;
  status_.connected = false;
}

bool YamlSource::wait() {
  auto deadline = Clock::now() + (watch_ < 0 ? Clock::duration(kFolderGone) : Clock::duration(kIdle));
  bool changed = false;
  for (;;) {
    std::array<pollfd, 2> fds{{{inotify_.get(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}}};
    const auto left = std::max(deadline - Clock::now(), Clock::duration::zero());
    // Rounded up, or the last millisecond would be spent polling.
    const int ready =
        ::poll(fds.data(), fds.size(), milliseconds(left) + (left > Clock::duration::zero() ? 1 : 0));
    if (ready < 0 && errno != EINTR) return false;
    if ((fds[1].revents & POLLIN) != 0) return false;
    if (ready == 0) return true;
    if (ready > 0 && (fds[0].revents & POLLIN) != 0 && read_events() && !changed) {
      changed = true;
      deadline = Clock::now() + kDebounce;
    }
  }
}

// True if one of them calls for a look at the folder.
bool YamlSource::read_events() {
  alignas(inotify_event) std::array<char, 16384> buffer;
  bool relevant = false;
  for (;;) {
    const auto count = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (count <= 0) return relevant;
    for (ssize_t offset = 0; offset < count;) {
      inotify_event event;
      std::memcpy(&event, buffer.data() + offset, sizeof event);
      const char* name = buffer.data() + offset + sizeof event;
      offset += static_cast<ssize_t>(sizeof event + event.len);
      const bool created = (event.mask & IN_CREATE) != 0 && event.len > 0;
      if (!created || is_complete(options_.folder + "/" + name)) relevant = true;
      if ((event.mask & IN_MOVE_SELF) != 0) ::inotify_rm_watch(inotify_.get(), event.wd);
      // Also follows rm_watch and the removal of the folder. One for an earlier watch does not concern us.
      if ((event.mask & IN_IGNORED) != 0 && event.wd == watch_) watch_ = -1;
    }
  }
}

}  // namespace sluice::source
