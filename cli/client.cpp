// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include <httplib.h>
#include <sys/un.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "common/fd.h"

namespace sluice::cli {

using nlohmann::json;

namespace {

static_assert(kUnreachable == ECONNREFUSED);

constexpr time_t kPatience = 30;              // seconds; the daemon answers in milliseconds
constexpr time_t kForEver = 365 * 24 * 3600;  // a monitor may be silent for long

httplib::Client connect_to(const std::string& socket, time_t read_timeout) {
  httplib::Client client(socket);
  client.set_address_family(AF_UNIX);
  client.set_read_timeout(read_timeout);
  return client;
}

tl::unexpected<Error> unreachable(const std::string& why, const std::string& hint) {
  return tl::unexpected<Error>(Error{"sluiced cannot be reached: " + why + ". " + hint, kUnreachable});
}

// Why there is no connection: cpp-httplib does not keep the errno, so it is asked for once more.
tl::unexpected<Error> explain(const std::string& socket) {
  const std::string running =
      "Check that sluiced (the sluice pod of this node) runs and what its log says; --socket names another "
      "socket";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path)
    return unreachable("the path " + socket + " is too long", running);
  socket.copy(address.sun_path, sizeof address.sun_path - 1);
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return unreachable(socket + " refused a connection, now it takes them", "Try again");
  switch (errno) {
    case ENOENT:
      return unreachable("there is no socket " + socket, running);
    case ECONNREFUSED:
      return unreachable("nobody listens on " + socket + " (it was left by a sluiced that ended)", running);
    case EACCES:
    case EPERM:
      return unreachable("no permission for " + socket, "Run sluicectl as root");
    default:
      return unreachable(socket + ": " + failure_errno(errno, "connect").value().message, running);
  }
}

tl::unexpected<Error> refused(const httplib::Response& response, const std::string& body) {
  const auto error = json::parse(body, nullptr, false);
  if (!error.is_object() || !error.contains("msg") || !error["msg"].is_string())
    return failure("sluiced answered HTTP status {} and no reason", response.status);
  const auto details =
      error.contains("details") && error["details"].is_string() ? error["details"].get<std::string>() : "";
  return failure("sluiced: {}{}", error["msg"].get<std::string>(),
                 details.empty() ? "" : " (" + details + ")");
}

}  // namespace

template <typename Answer>
Result<json> Client::object_of(const Answer& result) const {
  if (!result) {
    return result.error() == httplib::Error::Connection
               ? explain(socket_)
               : failure("sluiced ended the connection, or did not answer within {} s; look at its log",
                         kPatience);
  }
  if (result->status >= 400) return refused(*result, result->body);
  auto answer = json::parse(result->body, nullptr, false);
  if (!answer.is_object())
    return failure("what sluiced answered is not a JSON object; is {} its socket?", socket_);
  return answer;
}

Result<json> Client::get(const std::string& path) const {
  return object_of(connect_to(socket_, kPatience).Get(path));
}

Result<json> Client::remove(const std::string& path) const {
  return object_of(connect_to(socket_, kPatience).Delete(path));
}

Result<void> Client::stream(const std::string& path,
                            const std::function<bool(const std::string&)>& line) const {
  std::string pending;
  bool wanted = true;
  httplib::Response head;
  auto client = connect_to(socket_, kForEver);
  const auto result = client.Get(
      path,
      [&](const httplib::Response& response) {
        head.status = response.status;
        return true;
      },
      [&](const char* data, size_t size) {
        pending.append(data, size);
        if (head.status != 200) return true;
        for (std::size_t end; wanted && (end = pending.find('\n')) != std::string::npos;
             pending.erase(0, end + 1))
          wanted = line(pending.substr(0, end));
        return wanted;
      });
  if (!wanted) return {};
  if (head.status >= 400) return refused(head, pending);
  if (result.error() == httplib::Error::Connection) return explain(socket_);
  return failure("sluiced ended the monitor (it was stopped or restarted, or this terminal read too slowly)");
}

}  // namespace sluice::cli
