// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 and the routes of api.h. cpp-httplib parses and writes; sockets, threads and limits are ours,
// because its own server lets a client that sends slowly, or without end, keep a thread and memory for as
// long as it likes.
#pragma once

#include <memory>

#include "daemon/server/acceptor.h"
#include "daemon/server/api.h"

namespace sluice::server {

class Http {
 public:
  enum class Face {
    kControl,  // everything
    kHealth,   // /healthz, /readyz, /metrics: anybody who reaches the address may ask
    kMetrics,  // /metrics alone
  };
  Http(Api& api, Face face);
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;
  ~Http();

  // Reads one request and answers it. A monitor ends with the first line after its connection was shut down.
  // Thread-safe.
  void serve(Connection& connection);

 private:
  class Routes;
  std::unique_ptr<Routes> routes_;
};

}  // namespace sluice::server
