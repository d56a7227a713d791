// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "common/paths.h"
#include "common/result.h"
#include "daemon/server/api.h"

namespace sluice::server {

struct ServerOptions {
  std::string socket = kDefaultSocket;  // replaced if a dead one is there
  std::string health_address;           // "127.0.0.1:9790"; empty: none. /healthz, /readyz, /metrics only
  // Where /metrics alone is served to other hosts, with connections of its own, so that whoever asks for them
  // cannot keep the kubelet from /healthz. Empty: nowhere.
  std::string metrics_address;
};

class Server {
 public:
  // Listens on all of them and serves from threads of its own until destroyed. `api` outlives it.
  [[nodiscard]] static Result<std::unique_ptr<Server>> start(const ServerOptions& options, Api& api);
  virtual ~Server() = default;
  // Makes the Unix socket anew if somebody has removed or replaced it; true: so it was.
  [[nodiscard]] virtual Result<bool> put_back() = 0;
  // The TCP port of health_address (which may ask for port 0); 0: none.
  [[nodiscard]] virtual int health_port() const = 0;
  [[nodiscard]] virtual int metrics_port() const = 0;  // the same of metrics_address
};

}  // namespace sluice::server
