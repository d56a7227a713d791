// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/client_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace sluice::server {

using namespace std::chrono_literals;

namespace {
constexpr auto kPatience = 5s;                   // for a whole request, and for each piece of an answer
constexpr std::size_t kMostDiscarded = 8 << 20;  // read and thrown away so that the client sees its answer
}  // namespace

ClientStream::ClientStream(Connection& connection, std::size_t budget)
    : connection_(connection), budget_(budget), read_by_(connection.since + kPatience) {}

bool ClientStream::is_readable() const { return next_ < filled_ || pending(POLLIN); }
bool ClientStream::is_writable() const { return !pending(POLLHUP | POLLERR | POLLRDHUP); }

ssize_t ClientStream::read(char* to, size_t size) {
  if (next_ == filled_ && !fill()) return at_end_ ? 0 : -1;
  const auto count = std::min({size, filled_ - next_, budget_});
  if (count == 0 && size > 0) return -1;  // over budget
  std::copy_n(buffer_.data() + next_, count, to);
  next_ += count;
  budget_ -= count;
  return static_cast<ssize_t>(count);
}

ssize_t ClientStream::write(const char* data, size_t size) {
  const auto by = Clock::now() + kPatience;
  for (size_t done = 0; done < size;) {
    const auto sent = ::send(connection_.fd(), data + done, size - done, MSG_NOSIGNAL);
    if (sent >= 0)
      done += static_cast<size_t>(sent);
    else if (errno != EINTR && (errno != EAGAIN || !wait(POLLOUT, by)))
      return -1;
  }
  return static_cast<ssize_t>(size);
}

void ClientStream::finish() {
  ::shutdown(connection_.fd(), SHUT_WR);
  for (std::size_t discarded = 0; !at_end_ && discarded < kMostDiscarded; discarded += filled_)
    if (!fill()) return;
}

bool ClientStream::pending(short events) const {
  pollfd poll_fd{connection_.fd(), events, 0};
  return ::poll(&poll_fd, 1, 0) > 0;
}

bool ClientStream::wait(short events, Clock::time_point by) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(by - Clock::now()).count();
  if (left <= 0) return false;
  connection_.waits_for_client = true;
  pollfd poll_fd{connection_.fd(), events, 0};
  const int ready = ::poll(&poll_fd, 1, static_cast<int>(left));
  connection_.waits_for_client = false;
  return ready > 0 || (ready < 0 && errno == EINTR);
}

bool ClientStream::fill() {
  while (true) {
    const auto got = ::recv(connection_.fd(), buffer_.data(), buffer_.size(), 0);
    if (got > 0) {
      next_ = 0;
      filled_ = static_cast<std::size_t>(got);
      return true;
    }
    at_end_ = got == 0;
    if (at_end_ || (errno != EINTR && (errno != EAGAIN || !wait(POLLIN, read_by_)))) return false;
  }
}

}  // namespace sluice::server
