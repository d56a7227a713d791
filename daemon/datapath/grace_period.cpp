// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/grace_period.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstdint>

namespace sluice::datapath {

Result<GracePeriod> GracePeriod::make() {
  constexpr auto kSize = sizeof(std::uint32_t);
  GracePeriod made;
  made.inner_.reset(bpf_map_create(BPF_MAP_TYPE_ARRAY, "grace_inner", kSize, kSize, 1, nullptr));
  if (!made.inner_) return failure_errno(errno, "make a map to wait for packets in flight");
  LIBBPF_OPTS(bpf_map_create_opts, options);
  options.inner_map_fd = static_cast<std::uint32_t>(made.inner_.get());
  made.outer_.reset(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "grace_outer", kSize, kSize, 1, &options));
  if (!made.outer_) return failure_errno(errno, "make a map of maps to wait for packets in flight");
  return made;
}

Result<void> GracePeriod::wait() const {
  const std::uint32_t index = 0;
  const int inner = inner_.get();
  if (const int code = bpf_map_update_elem(outer_.get(), &index, &inner, 0); code < 0)
    return failure_errno(code, "wait for packets in flight");
  return {};
}

}  // namespace sluice::datapath
