// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/health_checks.h"

#include <httplib.h>

#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/fd.h"
#include "daemon/server/client_stream.h"
#include "daemon/server/listen.h"

namespace sluice::server {

namespace {

constexpr std::size_t kThreads = 4;
constexpr std::size_t kMostOfARequest = 64 << 10;  // bytes

// One request, whatever its path.
class HealthAnswer final : public httplib::Server {
 public:
  HealthAnswer(const service::HealthCheck& check, bool healthy) {
    svr_sock_ = 0;  // any value but INVALID_SOCKET
    set_payload_max_length(0);
    set_pre_routing_handler([&check, healthy](const httplib::Request&, httplib::Response& response) {
      const nlohmann::json body{{"service", {{"namespace", check.ns}, {"name", check.name}}},
                                {"localEndpoints", check.local_endpoints},
                                {"serviceProxyHealthy", healthy}};
      response.status = healthy && check.local_endpoints > 0 ? 200 : 503;
      response.set_header("X-Content-Type-Options", "nosniff");
      response.set_header("X-Load-Balancing-Endpoint-Weight", std::to_string(check.local_endpoints));
      response.set_content(body.dump() + "\n", "application/json");
      return HandlerResponse::Handled;
    });
  }

  void serve(Connection& connection) {
    ClientStream stream(connection, kMostOfARequest);
    bool closed = false;
    process_request(stream, true, closed, [](httplib::Request& request) {
      request.ranges.clear();
      request.headers.erase("Accept-Encoding");
    });
    stream.finish();
  }
};

}  // namespace

class HealthChecks::Running {
 public:
  Running() : acceptor_(kThreads, [this](Connection& connection) { serve(connection); }) {}

  std::vector<std::string> set(const service::HealthChecks& checks) {
    {
      const std::lock_guard lock(mutex_);
      checks_ = checks;
    }
    std::vector<std::string> problems;
    std::vector<Fd> to_close;
    for (auto each = listeners_.begin(); each != listeners_.end();) {
      const auto next = std::next(each);
      if (!checks.contains(each->first)) {
        to_close.push_back(std::move(each->second));
        listeners_.erase(each);
      }
      each = next;
    }
    bool changed = !to_close.empty();
    for (const auto& [port, check] : checks) {
      if (listeners_.contains(port)) continue;
      auto listener = listen_tcp("0.0.0.0:" + std::to_string(port));
      if (listener) {
        listeners_.emplace(port, std::move(*listener));
        changed = true;
      } else {
        problems.push_back(fmt::format("the healthCheckNodePort of Service {}/{} is not answered: {}",
                                       check.ns, check.name, listener.error().message));
      }
    }
    if (changed) {
      std::vector<int> fds;
      for (const auto& [port, listener] : listeners_) fds.push_back(listener.get());
      acceptor_.listen_on(std::move(fds));
    }
    return problems;
  }

  void set_healthy(bool healthy) {
    const std::lock_guard lock(mutex_);
    healthy_ = healthy;
  }

 private:
  void serve(Connection& connection) try {
    const auto port = local_port(connection.fd());
    if (!port) return;
    service::HealthCheck check;
    bool healthy = false;
    {
      const std::lock_guard lock(mutex_);
      const auto found = checks_.find(static_cast<std::uint16_t>(*port));
      if (found == checks_.end()) return;  // the Service went in this moment
      check = found->second;
      healthy = healthy_;
    }
    HealthAnswer(check, healthy).serve(connection);
  } catch (const std::exception&) {
    // Out of memory: this conversation ends without an answer.
  }

  std::mutex mutex_;
  service::HealthChecks checks_;
  bool healthy_ = true;
  std::map<std::uint16_t, Fd> listeners_;  // of the caller's thread
  Acceptor acceptor_;                      // ends first
};

HealthChecks::HealthChecks() = default;
HealthChecks::~HealthChecks() = default;

std::vector<std::string> HealthChecks::set(const service::HealthChecks& checks) {
  if (checks.empty()) {
    running_.reset();
    return {};
  }
  if (!running_) running_ = std::make_unique<Running>();
  running_->set_healthy(healthy_);
  return running_->set(checks);
}

void HealthChecks::set_healthy(bool healthy) {
  healthy_ = healthy;
  if (running_) running_->set_healthy(healthy);
}

}  // namespace sluice::server
