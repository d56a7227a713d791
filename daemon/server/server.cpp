// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/server.h"

#include <optional>

#include "daemon/server/http.h"
#include "daemon/server/listen.h"

namespace sluice::server {

namespace {

// An ADD may wait seconds for its pod to be known, a monitor for ever (there are 8 at most); the rest is for
// others. What comes beyond waits its turn.
constexpr std::size_t kControlThreads = 32;
constexpr std::size_t kHealthThreads = 4;

// One way in: the members end in reverse order, first the conversations, last the listening socket.
template <typename Listener>
class Door {
 public:
  Door(Listener listener, int fd, Api& api, Http::Face face, std::size_t threads)
      : listener_(std::move(listener)),
        http_(api, face),
        acceptor_(threads, [this](Connection& connection) { http_.serve(connection); }) {
    acceptor_.listen_on({fd});
  }
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

 private:
  Listener listener_;
  Http http_;
  Acceptor acceptor_;
};

class RunningServer final : public Server {
 public:
  RunningServer(UnixListener control, Api& api) {
    const int fd = control.fd();
    control_.emplace(std::move(control), fd, api, Http::Face::kControl, kControlThreads);
  }

  void add_health(Fd listener, int port, Api& api) {
    const int fd = listener.get();
    health_port_ = port;
    health_.emplace(std::move(listener), fd, api, Http::Face::kHealth, kHealthThreads);
  }

  int health_port() const override { return health_port_; }

 private:
  std::optional<Door<UnixListener>> control_;
  std::optional<Door<Fd>> health_;
  int health_port_ = 0;
};

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, Api& api) {
  Fd health;
  int port = 0;
  if (!options.health_address.empty()) {
    auto listener = listen_tcp(options.health_address);
    if (!listener) return tl::unexpected(listener.error());
    auto bound = local_port(listener->get());
    if (!bound) return tl::unexpected(bound.error());
    health = std::move(*listener);
    port = *bound;
  }
  auto control = UnixListener::open(options.socket);
  if (!control) return tl::unexpected(control.error());
  auto server = std::make_unique<RunningServer>(std::move(*control), api);
  if (health) server->add_health(std::move(health), port, api);
  return server;
}

}  // namespace sluice::server
