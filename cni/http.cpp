// SPDX-License-Identifier: Apache-2.0
#include "cni/http.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "common/fault_point.h"
#include "common/fd.h"

namespace sluice::cni {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxHead = 16 << 10;
constexpr std::size_t kMaxAnswer = 8 << 20;
constexpr std::chrono::milliseconds kRetry{10};

// Until `events` come (true) or the deadline passes (false). fd may be -1: waits only.
Result<bool> wait(int fd, short events, Clock::time_point deadline, int stop_fd) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd fds[2] = {{fd, events, 0}, {stop_fd, POLLIN, 0}};
    const int ready = poll(fds, 2, static_cast<int>(std::max<decltype(left)>(left, 0)));
    if (ready < 0 && errno != EINTR) return failure_errno(errno, "poll");
    if (ready <= 0 && left <= 0) return false;
    if (fds[1].revents != 0) return failure("interrupted by a signal");
    if (fds[0].revents != 0) return true;
  }
}

// Nobody listens (the daemon is being replaced), or it is too busy to accept at once.
bool may_come_back(int code) { return code == ENOENT || code == ECONNREFUSED || code == EAGAIN; }

Result<Fd> connect_once(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return failure_errno(ENAMETOOLONG, path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return failure_errno(errno, "socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return failure_errno(errno, path);
  return fd;
}

Result<Fd> connect_within(const std::string& path, std::chrono::milliseconds time, int stop_fd) {
  const auto deadline = Clock::now() + time;
  while (true) {
    auto fd = connect_once(path);
    if (fd || !may_come_back(fd.error().code) || Clock::now() >= deadline) return fd;
    auto waited = wait(-1, 0, std::min(deadline, Clock::now() + kRetry), stop_fd);
    if (!waited) return tl::unexpected(waited.error());
  }
}

Result<void> send_all(int fd, std::string_view text, Clock::time_point deadline, int stop_fd) {
  while (!text.empty()) {
    const auto count = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (count >= 0) {
      text.remove_prefix(static_cast<std::size_t>(count));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return failure_errno(errno, "send");
    auto ready = wait(fd, POLLOUT, deadline, stop_fd);
    if (!ready) return tl::unexpected(ready.error());
    if (!*ready) return failure("the request was not taken in time");
  }
  return {};
}

struct Head {
  int status = 0;
  std::optional<std::size_t> length;  // none: the body goes on to the end of the connection
};

std::string lower(std::string_view text) {
  std::string copy(text);
  for (char& c : copy) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return copy;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

template <typename T>
bool parse_number(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// `text` is the head without the empty line at its end.
Result<Head> parse_head(std::string_view text) {
  Head head;
  auto line_end = text.find("\r\n");
  const auto first = text.substr(0, line_end);
  if (first.size() < 12 || first.substr(0, 7) != "HTTP/1." || first[8] != ' ' ||
      !parse_number(first.substr(9, 3), head.status))
    return failure("the answer is not HTTP");
  while (line_end != std::string_view::npos) {
    text.remove_prefix(line_end + 2);
    line_end = text.find("\r\n");
    const auto line = text.substr(0, line_end);
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return failure("the answer has a malformed header");
    const auto name = lower(line.substr(0, colon));
    const auto value = trim(line.substr(colon + 1));
    if (name == "transfer-encoding")
      return failure("the answer has an unexpected transfer encoding '{}'", value);
    if (name == "content-length") {
      std::size_t length = 0;
      if (!parse_number(value, length) || length > kMaxAnswer)
        return failure("the answer has an unusable length '{}'", value);
      head.length = length;
    }
  }
  return head;
}

// Reads on; false at the end of the connection.
Result<bool> receive_some(int fd, std::string& text, Clock::time_point deadline, int stop_fd) {
  while (true) {
    char buffer[16384];
    const auto count = recv(fd, buffer, sizeof buffer, 0);
    if (count == 0) return false;
    if (count > 0) {
      text.append(buffer, static_cast<std::size_t>(count));
      if (text.size() > kMaxHead + kMaxAnswer) return failure("the answer is too long");
      return true;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return failure_errno(errno, "receive");
    auto ready = wait(fd, POLLIN, deadline, stop_fd);
    if (!ready) return tl::unexpected(ready.error());
    if (!*ready) return failure("no answer in time");
  }
}

Result<HttpAnswer> receive(int fd, Clock::time_point deadline, int stop_fd) {
  std::string text;
  std::optional<Head> head;
  std::size_t body = 0;
  while (true) {
    if (!head) {
      if (const auto end = text.find("\r\n\r\n"); end != std::string::npos) {
        auto parsed = parse_head(std::string_view(text).substr(0, end));
        if (!parsed) return tl::unexpected(parsed.error());
        head = *parsed;
        body = end + 4;
      } else if (text.size() > kMaxHead) {
        return failure("the answer is not HTTP");
      }
    }
    if (head && head->length && text.size() - body >= *head->length)
      return HttpAnswer{head->status, text.substr(body, *head->length)};
    auto more = receive_some(fd, text, deadline, stop_fd);
    if (!more) return tl::unexpected(more.error());
    if (*more) continue;
    if (head && !head->length) return HttpAnswer{head->status, text.substr(body)};
    return failure("the connection ended before the answer did");
  }
}

}  // namespace

tl::expected<HttpAnswer, HttpError> http_call(const std::string& socket, const HttpRequest& request,
                                              const HttpPatience& patience, int stop_fd) {
  const auto failed = [](bool sent, const Error& error) { return tl::unexpected(HttpError{sent, error}); };
  auto fd = connect_within(socket, patience.connect, stop_fd);
  if (!fd) return failed(false, fd.error());
  const auto deadline = Clock::now() + patience.answer;
  const auto text = fmt::format(
      "{} {} HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\nAccept: application/json\r\n"
      "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
      request.method, request.path, request.body.size(), request.body);
  if (auto sent = send_all(fd->get(), text, deadline, stop_fd); !sent) return failed(true, sent.error());
  SLUICE_FAULT_POINT("cni.request.sent");
  auto answer = receive(fd->get(), deadline, stop_fd);
  if (!answer) return failed(true, answer.error());
  return *answer;
}

}  // namespace sluice::cni
