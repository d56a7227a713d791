// SPDX-License-Identifier: Apache-2.0
#include "daemon/install/folder.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "common/fd.h"
#include "common/guard.h"
#include "daemon/source/files.h"

namespace sluice::install {

namespace fs = std::filesystem;

namespace {

std::string temporary_prefix(const std::string& name) { return "." + name; }

// One process writes one at a time.
std::string temporary_suffix() { return fmt::format(".{}", getpid()); }

Result<bool> unlink_if_there(const std::string& path) {
  if (unlink(path.c_str()) == 0) return true;
  if (errno == ENOENT) return false;
  return failure_errno(errno, "remove " + path);
}

}  // namespace

Kind kind_of(const std::string& path) {
  struct stat about {};
  if (lstat(path.c_str(), &about) != 0) return errno == ENOENT ? Kind::kNothing : Kind::kOther;
  return S_ISREG(about.st_mode) ? Kind::kFile : S_ISLNK(about.st_mode) ? Kind::kLink : Kind::kOther;
}

Result<std::vector<std::string>> files_in(const std::string& folder, bool may_miss) {
  std::vector<std::string> names;
  std::error_code error, ignored;
  for (fs::directory_iterator i(folder, error), end; !error && i != end; i.increment(error))
    if (i->is_symlink(ignored) || i->is_regular_file(ignored)) names.push_back(i->path().filename());
  if (error == std::errc::no_such_file_or_directory && may_miss) return names;
  if (error) return failure_errno(error.value(), "read " + folder);
  std::ranges::sort(names);
  return names;
}

Result<std::string> content_of(const std::string& path, std::size_t most) {
  if (const auto kind = kind_of(path); kind == Kind::kNothing || kind == Kind::kLink) return std::string();
  auto content = source::read_file(path, most);
  if (!content && content.error().code == ENOENT) return std::string();
  return content;
}

Result<void> write_whole(const std::string& folder, const std::string& name, std::string_view content,
                         mode_t mode) {
  const auto temporary = folder + "/" + temporary_prefix(name) + temporary_suffix();
  Fd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return failure_errno(errno, "create " + temporary);
  Guard remove([&] { unlink(temporary.c_str()); });
  while (!content.empty()) {
    const auto count = write(fd.get(), content.data(), content.size());
    if (count < 0 && errno != EINTR) return failure_errno(errno, "write " + temporary);
    if (count > 0) content.remove_prefix(static_cast<std::size_t>(count));
  }
  if (fchmod(fd.get(), mode) != 0 || fsync(fd.get()) != 0) return failure_errno(errno, "write " + temporary);
  const auto path = folder + "/" + name;
  if (rename(temporary.c_str(), path.c_str()) != 0) return failure_errno(errno, "rename to " + path);
  remove.dismiss();
  spdlog::info("wrote {}", path);
  return {};
}

bool is_unfinished(std::string_view name) {
  return name.starts_with('.') && name.ends_with(temporary_suffix());
}

Result<bool> take_interrupted(const std::string& folder, const std::string& name) {
  const auto names = files_in(folder, true);
  if (!names) return tl::unexpected(names.error());
  const auto prefix = folder + "/";
  bool some = false;
  for (const auto& each : *names) {
    if (!each.starts_with(temporary_prefix(name) + ".")) continue;
    auto taken = unlink_if_there(prefix + each);
    if (!taken) return taken;
    some = true;
  }
  return some;
}

Result<bool> take_away(const std::string& folder, const std::string& name) {
  if (auto done = take_interrupted(folder, name); !done) return done;
  return unlink_if_there(folder + "/" + name);
}

}  // namespace sluice::install
