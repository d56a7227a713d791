// SPDX-License-Identifier: Apache-2.0
#include "common/host_link.h"

#include <fmt/format.h>

#include <string_view>

#include "common/fnv.h"

namespace sluice {

namespace {
constexpr std::string_view kPrefix = "slu";
constexpr std::size_t kDigits = 11;  // fills the 15 characters of a name, but one
}  // namespace

std::string host_link_name(const std::string& container_id, const std::string& ifname) {
  return fmt::format("{}{:011x}", kPrefix, fnv1a(container_id + "/" + ifname) & 0xfffffffffff);
}

bool is_host_link_name(const std::string& name) {
  return name.starts_with(kPrefix) && name.size() == kPrefix.size() + kDigits &&
         name.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string::npos;
}

}  // namespace sluice
