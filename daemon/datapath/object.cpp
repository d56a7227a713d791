// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/object.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <optional>
#include <string_view>

namespace sluice::datapath {

namespace {

Result<void> check_pinned(const bpf_map* map, const bpf_map_info& pinned) {
  const auto differs = [&](const char* what, std::uint32_t here, std::uint32_t wanted) -> Result<void> {
    if (here == wanted) return {};
    return failure(
        "pinned map {} has {} {}, this build wants {}: another build made it under the same ABI version. "
        "Drain the node, remove the folder of pins (or reboot), and start again",
        bpf_map__pin_path(map), what, here, wanted);
  };
  return differs("type", pinned.type, bpf_map__type(map))
      .and_then([&] { return differs("key size", pinned.key_size, bpf_map__key_size(map)); })
      .and_then([&] { return differs("value size", pinned.value_size, bpf_map__value_size(map)); })
      .and_then([&] { return differs("max_entries", pinned.max_entries, bpf_map__max_entries(map)); })
      .and_then([&] { return differs("flags", pinned.map_flags, bpf_map__map_flags(map)); });
}

// Of the maps that are made in the size that the node needs; none: it has the one size that it is declared
// with.
std::optional<std::uint32_t> size_of(const bpf_map* map, const ObjectOptions& options) {
  const std::string_view name = bpf_map__name(map);
  if (name == "conntrack" || name == "conntrack_groups") return options.conntrack_groups;
  if (name == "peers") return options.peers;
  return std::nullopt;
}

// Instead of libbpf, which would open it by its path and compare it once more.
Result<void> take(bpf_map* map, const Fd& pinned) {
  if (const int code = bpf_map__reuse_fd(map, pinned.get()); code < 0)
    return failure_errno(code, fmt::format("take pinned map {}", bpf_map__name(map)));
  if (const int code = bpf_map__set_pin_path(map, nullptr); code < 0)
    return failure_errno(code, fmt::format("take pinned map {}", bpf_map__name(map)));
  return {};
}

}  // namespace

Result<void> prepare_object(bpf_object* object, const ObjectOptions& options) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const char* path = bpf_map__pin_path(map);
    if (path == nullptr) continue;
    if (const auto known = options.pinned_maps->find(path); known != options.pinned_maps->end()) {
      if (auto taken = take(map, known->second); !taken) return taken;
      continue;
    }
    const auto size = size_of(map, options);
    if (size) bpf_map__set_max_entries(map, *size);
    auto fd = Pins::get(path);
    if (!fd && fd.error().code == ENOENT) {
      options.unpinned_maps->emplace(path);
      continue;
    }
    if (!fd) return tl::unexpected(fd.error());
    bpf_map_info info{};
    std::uint32_t length = sizeof info;
    if (const int code = bpf_obj_get_info_by_fd(fd->get(), &info, &length); code < 0)
      return failure_errno(code, fmt::format("ask the kernel about {}", path));
    // A map that is there keeps the size that it was made with.
    if (size) bpf_map__set_max_entries(map, info.max_entries);
    if (auto same = check_pinned(map, info); !same) return same;
    const auto& known = options.pinned_maps->emplace(path, std::move(*fd)).first->second;
    if (auto taken = take(map, known); !taken) return taken;
  }
  return {};
}

}  // namespace sluice::datapath
