// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/pins.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include "common/fault_point.h"
#include "common/paths.h"

namespace sluice::datapath {

namespace {

Result<void> make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return failure_errno(errno, "make the folder " + path);
  return {};
}

std::vector<std::string> names_in(const std::string& folder, bool of_folders) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored) == of_folders) names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::uint32_t> numbers_in(const std::string& folder, bool of_folders) {
  std::vector<std::uint32_t> numbers;
  for (const auto& name : names_in(folder, of_folders)) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size()) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

constexpr const char* kFresh = "-new";  // a pin on its way to its place

// Left by a daemon that was killed between pinning and renaming.
Result<void> sweep(const std::string& folder) {
  for (const auto& name : names_in(folder, false))
    if (name.ends_with(kFresh))
      if (auto done = Pins::remove(folder + "/" + name); !done) return done;
  return {};
}

}  // namespace

Result<Pins> Pins::open(const std::string& bpffs) {
  struct statfs about {};
  const bool found = statfs(bpffs.c_str(), &about) == 0;
  if (!found || static_cast<std::uint64_t>(about.f_type) != BPF_FS_MAGIC)
    return failure(
        "{} is no BPF file system. Mount one (mount -t bpf bpf {}), and in a container mount the host's into "
        "it",
        bpffs, bpffs);
  Pins pins;
  pins.root_ = pins_folder(bpffs);
  for (const auto& folder : {bpffs + "/sluice", pins.root_, pins.root_ + "/progs", pins.root_ + "/links",
                             pins.root_ + "/sockets", generations_folder(pins.root_)})
    if (auto made = make_folder(folder); !made) return tl::unexpected(made.error());

  pins.lock_.reset(::open(pins.root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!pins.lock_) return failure_errno(errno, "open " + pins.root_);
  if (flock(pins.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return failure("{} is in use: another sluiced runs on this node", pins.root_);
    return failure_errno(errno, "lock " + pins.root_);
  }
  std::vector<std::string> folders{pins.root_ + "/progs", pins.root_ + "/links", pins.root_ + "/sockets"};
  for (const auto number : pins.generations()) folders.push_back(pins.generation(number));
  for (const auto& folder : folders)
    if (auto done = sweep(folder); !done) return tl::unexpected(done.error());
  return pins;
}

std::string Pins::link(std::uint32_t ifindex) const { return fmt::format("{}/links/{}", root_, ifindex); }
std::string Pins::generation(std::uint32_t number) const {
  return fmt::format("{}/{}", generations_folder(root_), number);
}
std::vector<std::uint32_t> Pins::links() const { return numbers_in(root_ + "/links", false); }
std::vector<std::uint32_t> Pins::generations() const { return numbers_in(generations_folder(root_), true); }
std::vector<std::string> Pins::maps() const { return names_in(root_, false); }

Result<void> Pins::make_generation(std::uint32_t number) const { return make_folder(generation(number)); }

void Pins::remove_generation(std::uint32_t number) const {
  unlink(generation_program(number).c_str());
  SLUICE_FAULT_POINT("generation.half_unpinned");
  unlink(generation_policies(number).c_str());
  rmdir(generation(number).c_str());
}

Result<Fd> Pins::get(const std::string& path) {
  Fd fd(bpf_obj_get(path.c_str()));
  if (!fd) return failure_errno(errno, "open " + path);
  return fd;
}

Result<void> Pins::put(int fd, const std::string& path) {
  const std::string fresh = path + kFresh;
  if (const int code = bpf_obj_pin(fd, fresh.c_str()); code < 0) return failure_errno(code, "pin " + fresh);
  SLUICE_FAULT_POINT("pin.made");
  if (rename(fresh.c_str(), path.c_str()) != 0) {
    const int code = errno;
    unlink(fresh.c_str());
    return failure_errno(code, "pin " + path);
  }
  return {};
}

Result<void> Pins::remove(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return failure_errno(errno, "remove " + path);
  return {};
}

}  // namespace sluice::datapath
