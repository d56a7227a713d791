// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/bpf_error.h"

#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace sluice::datapath {

namespace {

thread_local std::string* collected = nullptr;

// A verifier log is long and its end says what is wrong.
constexpr std::size_t kKept = 4096;

int collect(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (collected == nullptr || level == LIBBPF_DEBUG) return 0;
  char* line = nullptr;
  const int length = vasprintf(&line, format, arguments);
  if (length < 0) return 0;
  collected->append(line, static_cast<std::size_t>(length));
  free(line);
  if (collected->size() > 2 * kKept) collected->erase(0, collected->size() - kKept);
  return length;
}

}  // namespace

LibbpfMessages::LibbpfMessages() {
  libbpf_set_print(collect);
  collected = &text_;
}

LibbpfMessages::~LibbpfMessages() { collected = nullptr; }

tl::unexpected<Error> LibbpfMessages::failure(int code, const std::string& what) const {
  auto failed = failure_errno(code, what);
  auto& message = failed.value().message;
  if (std::abs(code) == EPERM)
    message +=
        " (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed; before Linux 5.11 also enough RLIMIT_MEMLOCK)";
  auto detail = text_.size() > kKept ? text_.substr(text_.size() - kKept) : text_;
  while (!detail.empty() && detail.back() == '\n') detail.pop_back();
  if (!detail.empty()) message += "; libbpf: " + detail;
  return failed;
}

}  // namespace sluice::datapath
