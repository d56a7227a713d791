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
  Listener& listener() { return listener_; }
  void listen_on(int fd) { acceptor_.listen_on({fd}); }
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

  void add(Http::Face face, Fd listener, int port, Api& api) {
    const bool metrics = face == Http::Face::kMetrics;
    const int fd = listener.get();
    (metrics ? metrics_port_ : health_port_) = port;
    (metrics ? metrics_ : health_).emplace(std::move(listener), fd, api, face, kHealthThreads);
  }

  Result<bool> put_back() override {
    auto& listener = control_->listener();
    if (listener.is_there()) return false;
    const auto before = listener.make_again();
    if (!before) return tl::unexpected(before.error());
    control_->listen_on(listener.fd());
    return true;
  }
  int health_port() const override { return health_port_; }
  int metrics_port() const override { return metrics_port_; }

 private:
  std::optional<Door<UnixListener>> control_;
  std::optional<Door<Fd>> health_, metrics_;
  int health_port_ = 0, metrics_port_ = 0;
};

struct Bound {
  Fd listener;  // none: no address was given
  int port = 0;
};

Result<Bound> bind_to(const std::string& address) {
  if (address.empty()) return Bound{};
  auto listener = listen_tcp(address);
  if (!listener) return tl::unexpected(listener.error());
  auto port = local_port(listener->get());
  if (!port) return tl::unexpected(port.error());
  return Bound{std::move(*listener), *port};
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, Api& api) {
  auto health = bind_to(options.health_address);
  if (!health) return tl::unexpected(health.error());
  auto metrics = bind_to(options.metrics_address);
  if (!metrics) return tl::unexpected(metrics.error());
  auto control = UnixListener::open(options.socket);
  if (!control) return tl::unexpected(control.error());
  auto server = std::make_unique<RunningServer>(std::move(*control), api);
  if (health->listener) server->add(Http::Face::kHealth, std::move(health->listener), health->port, api);
  if (metrics->listener) server->add(Http::Face::kMetrics, std::move(metrics->listener), metrics->port, api);
  return server;
}

}  // namespace sluice::server
