// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "common/fd.h"

namespace sluice::source {

Result<std::string> read_file(const std::string& path, std::size_t most) {
  // O_NONBLOCK: opening a FIFO must not hang.
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return failure_errno(errno, path);
  struct stat about {};
  if (::fstat(fd.get(), &about) != 0) return failure_errno(errno, path);
  if (!S_ISREG(about.st_mode)) return failure("{}: is not a regular file", path);
  std::string content;
  std::array<char, 16384> buffer;
  for (;;) {
    const auto count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failure_errno(errno, path);
    if (count == 0) return content;
    content.append(buffer.data(), static_cast<std::size_t>(count));
    if (content.size() > most) return failure("{}: is larger than {} bytes", path, most);
  }
}

std::string ascii(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return text;
}

}  // namespace sluice::source
