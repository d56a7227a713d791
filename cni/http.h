// SPDX-License-Identifier: Apache-2.0
// One HTTP/1.1 request over a Unix socket. Debian's cpp-httplib is a shared object that needs OpenSSL, and
// this binary is static; what the daemon's API needs of HTTP is small.
#pragma once

#include <chrono>
#include <string>
#include <tl/expected.hpp>

#include "common/result.h"

namespace sluice::cni {

struct HttpRequest {
  std::string method;
  std::string path;
  std::string body;  // JSON; empty: none
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};

struct HttpError {
  bool sent = false;  // the request went out: the other side may have acted on it
  Error error;
};

struct HttpPatience {
  std::chrono::milliseconds connect;  // how long to try again while nobody listens
  std::chrono::milliseconds answer;
};

// `stop_fd`, unless -1, ends all waiting when it becomes readable.
[[nodiscard]] tl::expected<HttpAnswer, HttpError> http_call(const std::string& socket,
                                                            const HttpRequest& request,
                                                            const HttpPatience& patience, int stop_fd);

}  // namespace sluice::cni
