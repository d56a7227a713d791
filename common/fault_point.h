// SPDX-License-Identifier: Apache-2.0
// Points between two steps, at which the tests kill the process or make the step fail. Only the tests' own
// binaries have them (SLUICE_FAULT_POINTS); in all others a point is a check of its name and no code.
//   SLUICE_FAULT=NAME[:N]          SIGKILL when NAME is reached the N-th time (default: the first)
//   SLUICE_FAULT=NAME:N:error[:M]  the step fails the N-th time and M - 1 times more
#pragma once

#include <string_view>

#ifdef SLUICE_FAULT_POINTS
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <string>

#include "common/result.h"
#endif

namespace sluice::fault {

enum Kind { KILL, FAIL };

// Compiles only for a name in the list, of a kind that the point has.
consteval std::string_view known(std::string_view name, Kind kind) {
#define X(listed, has) \
  if (name == listed && kind == has) return name;
#include "common/fault_points.def"
#undef X
  throw "fault_points.def has no such name of this kind";
}

#ifdef SLUICE_FAULT_POINTS

struct Plan {
  std::string name;
  unsigned first = 1, times = 1;
  bool fails = false;
};

inline Plan read_plan() {
  const char* text = std::getenv("SLUICE_FAULT");
  Plan plan;
  std::string_view rest = text == nullptr ? "" : text;
  const auto next = [&rest] {
    const auto part = rest.substr(0, rest.find(':'));
    rest.remove_prefix(part.size() < rest.size() ? part.size() + 1 : part.size());
    return part;
  };
  const auto number = [](std::string_view part, unsigned& into) {
    std::from_chars(part.data(), part.data() + part.size(), into);
  };
  plan.name = next();
  number(next(), plan.first);
  plan.fails = next() == "error";
  number(next(), plan.times);
  return plan;
}

// True: the step is to fail.
inline bool reached(std::string_view name) {
  static const Plan plan = read_plan();
  static std::atomic<unsigned> count = 0;
  if (name != plan.name) return false;
  const unsigned now = ++count;
  if (now < plan.first || now >= plan.first + plan.times) return false;
  if (plan.fails) return true;
  kill(getpid(), SIGKILL);
  pause();
  return false;
}

#endif

}  // namespace sluice::fault

#ifdef SLUICE_FAULT_POINTS
#define SLUICE_FAULT_POINT(name) \
  static_cast<void>(::sluice::fault::reached(::sluice::fault::known(name, ::sluice::fault::KILL)))
// In a function that returns a Result.
#define SLUICE_FAILURE_POINT(name)                                                     \
  do {                                                                                 \
    if (::sluice::fault::reached(::sluice::fault::known(name, ::sluice::fault::FAIL))) \
      return ::sluice::failure("failed on purpose at {}", name);                       \
  } while (false)
#else
#define SLUICE_FAULT_POINT(name) static_assert(!::sluice::fault::known(name, ::sluice::fault::KILL).empty())
#define SLUICE_FAILURE_POINT(name) static_assert(!::sluice::fault::known(name, ::sluice::fault::FAIL).empty())
#endif
