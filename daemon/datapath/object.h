// SPDX-License-Identifier: Apache-2.0
// One embedded BPF object (a module's code) between opening and loading. Maps that are pinned already are
// reused.
#pragma once

#include <bpf/libbpf.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>

#include "bpf/abi.h"
#include "common/fd.h"
#include "common/fnv.h"
#include "common/result.h"
#include "daemon/datapath/bpf_error.h"
#include "daemon/datapath/pins.h"

namespace sluice::datapath {

// How objects are opened on this node.
struct ObjectOptions {
  std::string pin_root;
  std::uint32_t conntrack_groups = 0;
  std::uint32_t peers = SLUICE_PEERS;  // of a new map
  // Pinned maps by path, opened and compared for an earlier object; the next ones take them as they are.
  std::shared_ptr<std::map<std::string, Fd>> pinned_maps = std::make_shared<std::map<std::string, Fd>>();
  // Paths of maps that objects have and that were not pinned when they were opened.
  std::shared_ptr<std::set<std::string>> unpinned_maps = std::make_shared<std::set<std::string>>();
};

// Sets what this node's objects have in common; an error if a pinned map has another layout than the
// object's.
[[nodiscard]] Result<void> prepare_object(bpf_object* object, const ObjectOptions& options);

// `Skeleton` is the struct that bpftool generated.
template <typename Skeleton>
class Object {
 public:
  [[nodiscard]] static Result<Object> open(const ObjectOptions& options) {
    const LibbpfMessages messages;
    LIBBPF_OPTS(bpf_object_open_opts, open_options);
    open_options.pin_root_path = options.pin_root.c_str();
    Object made(Skeleton::open(&open_options));
    if (!made.skeleton_) return messages.failure(errno, "open an embedded BPF object");
    messages.log_warnings(fmt::format("opening BPF object '{}'", bpf_object__name(made.skeleton_->obj)));
    if (auto done = prepare_object(made.skeleton_->obj, options); !done) return tl::unexpected(done.error());
    return made;
  }
  [[nodiscard]] Result<void> load() {
    const LibbpfMessages messages;
    if (const int code = Skeleton::load(skeleton_.get()); code < 0)
      return messages.failure(code, fmt::format("load BPF object '{}'", bpf_object__name(skeleton_->obj)));
    messages.log_warnings(fmt::format("loading BPF object '{}'", bpf_object__name(skeleton_->obj)));
    return {};
  }
  [[nodiscard]] Skeleton* operator->() const { return skeleton_.get(); }

  // Tells this build's code from another's.
  [[nodiscard]] static std::uint64_t code_hash() {
    std::size_t size = 0;
    const void* bytes = Skeleton::elf_bytes(&size);
    return fnv1a({static_cast<const std::byte*>(bytes), size});
  }

 private:
  struct Destroy {
    void operator()(Skeleton* skeleton) const { Skeleton::destroy(skeleton); }
  };
  explicit Object(Skeleton* skeleton) : skeleton_(skeleton) {}
  std::unique_ptr<Skeleton, Destroy> skeleton_;
};

}  // namespace sluice::datapath
