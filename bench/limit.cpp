// SPDX-License-Identifier: Apache-2.0
// Attaches bench/limit.bpf.c to two interfaces of its network namespace until standard input ends.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <net/if.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "limit.skel.h"

namespace {

constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

int fail(const char* what) {
  fmt::print(stderr, "sluice_bench_limit: {}: {}\n", what, strerror(errno));
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: sluice_bench_limit INTERFACE INTERFACE\n");
    return 1;
  }
  const std::uint32_t ends[] = {if_nametoindex(argv[1]), if_nametoindex(argv[2])};
  if (ends[0] == 0 || ends[1] == 0) return fail("find the interfaces");
  limit_bpf* limit = limit_bpf__open_and_load();
  if (limit == nullptr) return fail("load the program");
  for (const int i : {0, 1}) {
    if (bpf_map_update_elem(bpf_map__fd(limit->maps.others), &ends[i], &ends[1 - i], BPF_ANY) != 0)
      return fail("fill the map");
    if (bpf_link_create(bpf_program__fd(limit->progs.hand_over), static_cast<int>(ends[i]), kTcxIngress,
                        nullptr) < 0)
      return fail("attach by tcx (Linux 6.6)");
  }
  fmt::print("ready\n");
  std::fflush(stdout);
  for (char byte; read(STDIN_FILENO, &byte, 1) > 0;) continue;
}
