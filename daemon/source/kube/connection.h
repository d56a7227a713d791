// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/result.h"
#include "daemon/source/kube/config.h"
#include "daemon/source/kube/interrupter.h"

namespace httplib {
class ClientImpl;
}

namespace sluice::source {

// One connection to the API server, used by one thread. Made anew for each list and each watch, so that
// rotated certificates and tokens take effect.
class Connection {
 public:
  struct Timeouts {
    std::chrono::milliseconds connect{};
    std::chrono::milliseconds read{};  // of silence
  };
  struct Response {
    int status = 0;
    std::chrono::milliseconds retry_after{0};
    std::string error;  // in words, if status is not 200
  };
  struct Handlers {
    std::function<void()> opened;                // the status is 200; may be empty
    std::function<bool(std::string_view)> data;  // of the body of a 200, as it arrives; false ends it
  };

  [[nodiscard]] static Result<std::unique_ptr<Connection>> make(const KubeConfig& config,
                                                                const Timeouts& timeouts,
                                                                std::shared_ptr<Interrupter> interrupter);
  ~Connection();

  // An error: no complete answer came, or `data` said false. `path` is percent-encoded.
  [[nodiscard]] Result<Response> get(const std::string& path, const Handlers& handlers) {
    return call("GET", path, handlers);
  }
  [[nodiscard]] Result<Response> call(const char* method, const std::string& path, const Handlers& handlers);

 private:
  Connection(const KubeConfig& config, std::shared_ptr<Interrupter> interrupter);
  Result<void> open_tls();
  std::string describe_failure(int httplib_error) const;

  const KubeConfig config_;
  const std::shared_ptr<Interrupter> interrupter_;
  std::unique_ptr<httplib::ClientImpl> client_;
};

// For a path or a query.
[[nodiscard]] std::string percent_encode(std::string_view text);

}  // namespace sluice::source
