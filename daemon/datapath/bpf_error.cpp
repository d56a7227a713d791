// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/bpf_error.h"

#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

namespace sluice::datapath {

namespace {

thread_local LibbpfMessages* collecting = nullptr;

// A verifier log is long and its end says what is wrong.
constexpr std::size_t kKept = 4096;

void append(std::string& text, const std::string& line) {
  text += line;
  if (text.size() > 2 * kKept) text.erase(0, text.size() - kKept);
}

std::string end_of(const std::string& text) {
  auto end = text.size() > kKept ? text.substr(text.size() - kKept) : text;
  while (!end.empty() && end.back() == '\n') end.pop_back();
  return end;
}

int collect(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (collecting == nullptr || level == LIBBPF_DEBUG) return 0;
  char* line = nullptr;
  const int length = vasprintf(&line, format, arguments);
  if (length < 0) return 0;
  collecting->add({line, static_cast<std::size_t>(length)}, level == LIBBPF_WARN);
  free(line);
  return length;
}

}  // namespace

LibbpfMessages::LibbpfMessages() {
  libbpf_set_print(collect);
  collecting = this;
}

LibbpfMessages::~LibbpfMessages() { collecting = nullptr; }

void LibbpfMessages::add(const std::string& line, bool warning) {
  append(text_, line);
  if (warning) append(warnings_, line);
}

void LibbpfMessages::log_warnings(const std::string& what) const {
  static std::mutex mutex;
  static std::map<std::string, std::string> told;
  auto words = end_of(warnings_);
  if (words.empty()) return;
  {
    const std::lock_guard lock(mutex);
    auto& last = told[what];
    if (last == words) return;
    last = words;
  }
  for (auto at = words.find('\n'); at != std::string::npos; at = words.find('\n', at))
    words.replace(at, 1, "; ");
  spdlog::warn("{} succeeded, but libbpf warns: {}", what, words);
}

tl::unexpected<Error> LibbpfMessages::failure(int code, const std::string& what) const {
  auto failed = failure_errno(code, what);
  auto& message = failed.value().message;
  if (std::abs(code) == EPERM)
    message +=
        " (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed; before Linux 5.11 also enough RLIMIT_MEMLOCK)";
  if (const auto detail = end_of(text_); !detail.empty()) message += "; libbpf: " + detail;
  return failed;
}

}  // namespace sluice::datapath
