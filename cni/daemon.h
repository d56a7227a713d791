// SPDX-License-Identifier: Apache-2.0
// The daemon's API (daemon/server/api.h) as the plugin calls it.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <tl/expected.hpp>

#include "cni/environment.h"
#include "cni/failure.h"
#include "cni/http.h"

namespace sluice::cni {

// A daemon that is replaced is away for a moment: an ADD outlasts that; a DEL can be queued instead.
inline constexpr HttpPatience kAddPatience{std::chrono::seconds(5), std::chrono::seconds(60)};
inline constexpr HttpPatience kDelPatience{std::chrono::seconds(1), std::chrono::seconds(10)};
inline constexpr HttpPatience kStatusPatience{std::chrono::seconds(0), std::chrono::seconds(10)};

struct Refusal {
  enum class Kind {
    kNotReached,  // the daemon has not heard of it
    kNoAnswer,    // it may have been done, or not
    kRefused,     // the daemon answered an error; nothing was done
  };
  Kind kind = Kind::kNotReached;
  Failure failure;
};

class Daemon {
 public:
  // `stop_fd`: see http.h
  Daemon(std::string socket, int stop_fd) : socket_(std::move(socket)), stop_fd_(stop_fd) {}

  // Succeeds with the JSON object that the daemon answered.
  [[nodiscard]] tl::expected<nlohmann::json, Refusal> get(const std::string& path,
                                                          const HttpPatience& patience) const;
  [[nodiscard]] tl::expected<nlohmann::json, Refusal> post(const std::string& path,
                                                           const nlohmann::json& body,
                                                           const HttpPatience& patience) const;

 private:
  [[nodiscard]] tl::expected<nlohmann::json, Refusal> call(const HttpRequest& request,
                                                           const HttpPatience& patience) const;
  std::string socket_;
  int stop_fd_;
};

// {"containerID","ifname"}, which begins the body of every request about one attachment.
[[nodiscard]] nlohmann::json to_json(const AttachmentKey& key);

// Text that came from outside may be no UTF-8; that must not cost the answer.
[[nodiscard]] std::string dump(const nlohmann::json& value);

// The member's text; empty if there is none.
[[nodiscard]] std::string text_of(const nlohmann::json& object, const char* key);

}  // namespace sluice::cni
