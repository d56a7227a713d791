// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/listen.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "common/guard.h"

namespace sluice::server {

namespace {

namespace fs = std::filesystem;

constexpr int kBacklog = 128;

Result<void> make_folder(const fs::path& folder) {
  std::error_code error;
  if (folder.empty() || fs::is_directory(folder, error)) return {};
  fs::create_directories(folder.parent_path(), error);
  if (error) return failure_errno(error.value(), "create " + folder.parent_path().string());
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return failure_errno(errno, "create " + folder.string());
  return {};
}

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return failure("the socket's path {} is longer than {} bytes; choose a shorter one", path,
                   sizeof address.sun_path - 1);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// What is at the path may be replaced: nothing, or a socket on which nobody listens.
Result<void> check_replaceable(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0)
    return errno == ENOENT ? Result<void>() : failure_errno(errno, "look at " + path);
  if (!S_ISSOCK(status.st_mode))
    return failure("{} exists and is not a socket; remove it or choose another path for the socket", path);
  const auto address = unix_address(path);
  if (!address) return tl::unexpected(address.error());
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return failure_errno(errno, "make a Unix socket");
  const bool answers =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0;
  // EAGAIN: somebody listens and is too busy to take another connection.
  if (answers || errno == EAGAIN)
    return failure("another process answers on {}; stop it (another sluiced?) or choose another path", path);
  return {};
}

Result<Fd> lock_file(const std::string& path) {
  Fd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) return failure_errno(errno, "open " + path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return failure_errno(errno, "lock " + path);
    return failure("another sluiced holds {}; stop it first (`fuser {}` tells its process id)", path, path);
  }
  return lock;
}

}  // namespace

Result<UnixListener> UnixListener::open(const std::string& path) {
  UnixListener listener(path);
  if (auto made = listener.make_again(); !made) return tl::unexpected(made.error());
  return listener;
}

Result<Fd> UnixListener::make_again() {
  if (auto done = make_folder(fs::path(path_).parent_path()); !done) return tl::unexpected(done.error());
  if (!has_lock()) {
    auto lock = lock_file(lock_path());
    if (!lock) return tl::unexpected(lock.error());
    lock_ = std::move(*lock);
  }
  if (is_there()) return Fd();
  auto socket = make_socket();
  if (!socket) return socket;
  std::swap(socket_, *socket);
  id_ = file_at(path_);
  return socket;
}

bool UnixListener::is_there() const { return has_lock() && id_ != FileId() && file_at(path_) == id_; }

bool UnixListener::has_lock() const {
  struct stat held {};
  return lock_ && ::fstat(lock_.get(), &held) == 0 &&
         file_at(lock_path()) == FileId{held.st_dev, held.st_ino};
}

UnixListener::FileId UnixListener::file_at(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 ? FileId{status.st_dev, status.st_ino} : FileId();
}

Result<Fd> UnixListener::make_socket() {
  if (auto good = check_replaceable(path_); !good) return tl::unexpected(good.error());
  const std::string temporary = path_ + ".new";
  const auto address = unix_address(temporary);
  if (!address) return tl::unexpected(address.error());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return failure_errno(errno, "make a Unix socket");
  ::unlink(temporary.c_str());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0)
    return failure_errno(errno, "bind " + temporary);
  Guard remove([&] { ::unlink(temporary.c_str()); });
  // Before listen(): nobody can have connected while the umask ruled.
  if (::chmod(temporary.c_str(), 0600) != 0) return failure_errno(errno, "chmod " + temporary);
  if (::listen(socket.get(), kBacklog) != 0) return failure_errno(errno, "listen on " + temporary);
  if (::rename(temporary.c_str(), path_.c_str()) != 0) return failure_errno(errno, "rename " + temporary);
  remove.dismiss();
  return socket;
}

UnixListener::~UnixListener() {
  if (socket_) ::unlink(path_.c_str());  // still under the lock: it cannot be a successor's
}

Result<Fd> listen_tcp(const std::string& address) {
  const auto colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int problem =
      port.empty() ? EAI_NONAME
                   : ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found);
  if (problem != 0)
    return failure("'{}' is not an address to listen on, such as 127.0.0.1:9790 or [::]:9790: {}", address,
                   ::gai_strerror(problem));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);

  Fd socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return failure_errno(errno, "make a TCP socket");
  const int yes = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0)
    return failure_errno(errno, "listen on " + address);
  if (::listen(socket.get(), kBacklog) != 0) return failure_errno(errno, "listen on " + address);
  return socket;
}

Result<int> local_port(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    return failure_errno(errno, "getsockname");
  const auto port_be = address.ss_family == AF_INET6
                           ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                           : reinterpret_cast<const sockaddr_in*>(&address)->sin_port;
  return ntohs(port_be);
}

}  // namespace sluice::server
