// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/result.h"

namespace sluice::cli {

// Error::code of a daemon that cannot be reached; an error that the daemon answered has 0.
inline constexpr int kUnreachable = 111;  // ECONNREFUSED

class Client {
 public:
  explicit Client(std::string socket) : socket_(std::move(socket)) {}
  [[nodiscard]] Result<nlohmann::json> get(const std::string& path) const;
  [[nodiscard]] Result<nlohmann::json> remove(const std::string& path) const;  // DELETE
  // Each line of an answer that has no end, until `line` returns false (then no error) or the daemon goes.
  [[nodiscard]] Result<void> stream(const std::string& path,
                                    const std::function<bool(const std::string&)>& line) const;

 private:
  template <typename Answer>
  [[nodiscard]] Result<nlohmann::json> object_of(const Answer& result) const;
  std::string socket_;
};

}  // namespace sluice::cli
