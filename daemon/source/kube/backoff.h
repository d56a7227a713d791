// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <random>

namespace sluice::source {

// How long to wait after a failure: doubling from 100 ms to 30 s, spread so that nodes that failed together
// do not return together.
class Backoff {
 public:
  using Duration = std::chrono::milliseconds;

  explicit Backoff(std::mt19937& random) : random_(random) {}
  void reset() { ceiling_ = kFirst; }
  Duration next() {
    const Duration wait(
        std::uniform_int_distribution<Duration::rep>(ceiling_.count() / 2, ceiling_.count())(random_));
    ceiling_ = std::min(ceiling_ * 2, kMost);
    return wait;
  }

 private:
  static constexpr Duration kFirst{100};
  static constexpr Duration kMost{30'000};
  std::mt19937& random_;
  Duration ceiling_ = kFirst;
};

}  // namespace sluice::source
