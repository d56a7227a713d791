// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/lacking.h"

#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace sluice::bpftest {
namespace {

const btf* kernel_types() {
  static const std::unique_ptr<btf, void (*)(btf*)> types(btf__load_vmlinux_btf(), btf__free);
  if (types == nullptr) throw std::runtime_error("the kernel's types cannot be read");
  return types.get();
}

int find_struct(const char* name) { return btf__find_by_name_kind(kernel_types(), name, BTF_KIND_STRUCT); }

// Of a struct or union, or of one without a name in it.
bool has_member(std::uint32_t id, const std::string& name) {
  const btf_type* type = btf__type_by_id(kernel_types(), id);
  if (!btf_is_composite(type)) return false;
  const btf_member* members = btf_members(type);
  return std::any_of(members, members + btf_vlen(type), [&](const btf_member& each) {
    const std::string found = btf__name_by_offset(kernel_types(), each.name_off);
    return found.empty() ? has_member(each.type, name) : found == name;
  });
}

bool has_enumerator(const std::string& name) {
  for (std::uint32_t id = 1; id < btf__type_cnt(kernel_types()); ++id) {
    const btf_type* type = btf__type_by_id(kernel_types(), id);
    if (!btf_is_enum(type)) continue;
    const struct btf_enum* values = btf_enum(type);
    if (std::any_of(values, values + btf_vlen(type), [&](const struct btf_enum& each) {
          return name == btf__name_by_offset(kernel_types(), each.name_off);
        }))
      return true;
  }
  return false;
}

// GTEST_SKIP() alone ends the function that it is in, not the test.
[[noreturn]] void end_lacking(const char* what) {
  [what] { GTEST_SKIP() << what; }();
  throw ::testing::AssertionException({::testing::TestPartResult::kSkip, __FILE__, __LINE__, what});
}

}  // namespace

void need_tunnel_source() {
  static const int key = find_struct("bpf_tunnel_key");
  static const bool has = key > 0 && has_member(static_cast<std::uint32_t>(key), "local_ipv4");
  if (!has) end_lacking("programs cannot set the source of a tunnel's packets");
}

void need_tunnel_headers() {
  static const bool has = has_enumerator("BPF_F_ADJ_ROOM_ENCAP_L2_ETH");
  if (!has) end_lacking("programs cannot add a tunnel's headers as VXLAN's");
}

void need_elements_given_at_once() {
  static const bool has = find_struct("bpf_mem_alloc") > 0;
  if (!has) end_lacking("the memory of a deleted element is given to another one only after a grace period");
}

}  // namespace sluice::bpftest
