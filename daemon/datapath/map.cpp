// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>

#include "common/fault_point.h"
#include "daemon/datapath/bpf_error.h"

namespace sluice::datapath {

namespace {

// Elements asked for at once. More than a bucket of a hash can hold, or the kernel answers ENOSPC.
constexpr std::uint32_t kBatch = 4096;

bool batches_unsupported(int code) {
  return code == -EINVAL || code == -ENOTSUP || code == -kKernelNotSupported;
}

}  // namespace

Result<RawMap> RawMap::open(const std::string& path, Shape shape) {
  Fd fd(bpf_obj_get(path.c_str()));
  if (!fd) return failure_errno(errno, "open the pinned map " + path);
  return adopt(std::move(fd), shape);
}

Result<RawMap> RawMap::adopt(Fd fd, Shape shape) {
  bpf_map_info info{};
  std::uint32_t length = sizeof info;
  if (const int code = bpf_obj_get_info_by_fd(fd.get(), &info, &length); code < 0)
    return failure_errno(code, "ask the kernel about a map");
  if (info.key_size != shape.key_size || info.value_size != shape.value_size)
    return failure(
        "map '{}' has keys of {} and values of {} bytes, this build wants {} and {}: a build with another "
        "layout pinned it under the same ABI version; drain the node, remove the pins and start again",
        info.name, info.key_size, info.value_size, shape.key_size, shape.value_size);
  RawMap made;
  made.fd_ = std::move(fd);
  made.name_ = info.name;
  made.shape_ = shape;
  made.id_ = info.id;
  made.max_entries_ = info.max_entries;
  return made;
}

Result<RawMap> RawMap::make_larger(std::uint32_t max_entries) const {
  bpf_map_info info{};
  std::uint32_t length = sizeof info;
  if (const int code = bpf_obj_get_info_by_fd(fd_.get(), &info, &length); code < 0)
    return failure_errno(code, "ask the kernel about a map");
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = info.map_flags);
  Fd made(bpf_map_create(static_cast<bpf_map_type>(info.type), name_.c_str(), info.key_size, info.value_size,
                         max_entries, &options));
  if (!made) return failure_errno(errno, fmt::format("make map '{}' for {} entries", name_, max_entries));
  return adopt(std::move(made), shape_);
}

tl::unexpected<Error> RawMap::failed(int code, const char* what) const {
  if (code == -E2BIG || code == -ENOSPC)
    return tl::unexpected<Error>(
        Error{fmt::format("map '{}' is full ({} entries)", name_, max_entries_), -code});
  return failure_errno(code, fmt::format("{} map '{}'", what, name_));
}

Result<bool> RawMap::lookup(const void* key, void* value) const {
  const int code = bpf_map_lookup_elem(fd_.get(), key, value);
  if (code == -ENOENT) return false;
  if (code < 0) return failed(code, "read");
  return true;
}

Result<void> RawMap::update(const void* key, const void* value, std::uint64_t flags) const {
  if (const int code = bpf_map_update_elem(fd_.get(), key, value, flags); code < 0)
    return failed(code, "write");
  return {};
}

Result<bool> RawMap::erase(const void* key) const {
  const int code = bpf_map_delete_elem(fd_.get(), key);
  if (code == -ENOENT) return false;
  if (code < 0) return failed(code, "delete from");
  return true;
}

Result<void> RawMap::update_all(const std::byte* keys, const std::byte* values, std::size_t count) const {
  constexpr std::size_t kWorthwhile = 4;
  if (count >= kWorthwhile) {
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    auto many = static_cast<std::uint32_t>(count);
    const int code = bpf_map_update_batch(fd_.get(), keys, values, &many, &options);
    if (code == 0) return {};
    if (!batches_unsupported(code)) return failed(code, "write");
  }
  for (std::size_t done = 0; done < count; ++done) {
    if (auto written = update(keys + done * shape_.key_size, values + done * shape_.value_size, 0); !written)
      return written;
    SLUICE_FAILURE_POINT("map.element_written");
  }
  return {};
}

Result<void> RawMap::visit(const Visitor& visitor) const {
  auto batched = visit_batches(visitor);
  if (!batched) return tl::unexpected(batched.error());
  if (*batched) return {};
  return visit_singly(visitor);
}

// False: this map type or kernel has no batches.
Result<bool> RawMap::visit_batches(const Visitor& visitor) const {
  // The place to go on from: a bucket number or a key.
  std::vector<std::byte> from(std::max<std::size_t>(shape_.key_size, 8)), to(from.size());
  std::vector<std::byte> keys, values;
  std::uint32_t room = std::min(kBatch, max_entries_);
  for (bool first = true;;) {
    keys.resize(room * shape_.key_size);
    values.resize(room * shape_.value_size);
    std::uint32_t count = room;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    const int code = bpf_map_lookup_batch(fd_.get(), first ? nullptr : from.data(), to.data(), keys.data(),
                                          values.data(), &count, &options);
    if (first && batches_unsupported(code)) return false;
    if (code == -ENOSPC) {
      room *= 2;
      continue;
    }
    if (code < 0 && code != -ENOENT) return failed(code, "read");
    if (auto done = visitor(keys.data(), values.data(), count); !done) return tl::unexpected(done.error());
    first = false;
    from.swap(to);
    if (code == -ENOENT) return true;
  }
}

Result<void> RawMap::visit_singly(const Visitor& visitor) const {
  std::vector<std::byte> key(shape_.key_size), next(shape_.key_size), value(shape_.value_size);
  int code = bpf_map_get_next_key(fd_.get(), nullptr, next.data());
  while (code == 0) {
    key.swap(next);
    // Before the visitor can erase it: from a key that is gone, the kernel would begin anew.
    code = bpf_map_get_next_key(fd_.get(), key.data(), next.data());
    auto found = lookup(key.data(), value.data());
    if (!found) return tl::unexpected(found.error());
    if (!*found) continue;
    if (auto done = visitor(key.data(), value.data(), 1); !done) return done;
  }
  if (code != -ENOENT) return failed(code, "read");
  return {};
}

std::size_t possible_cpus() {
  static const int cpus = libbpf_num_possible_cpus();
  return cpus > 0 ? static_cast<std::size_t>(cpus) : 1;
}

}  // namespace sluice::datapath
