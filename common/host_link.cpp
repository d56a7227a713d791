// SPDX-License-Identifier: Apache-2.0
#include "common/host_link.h"

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

namespace sluice {

namespace {
constexpr std::string_view kPrefix = "slu";
constexpr std::size_t kDigits = 11;  // fills the 15 characters of a name, but one
}  // namespace

std::string host_link_name(const std::string& container_id, const std::string& ifname) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : container_id + "/" + ifname)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{}{:011x}", kPrefix, hash & 0xfffffffffff);
}

bool is_host_link_name(const std::string& name) {
  return name.starts_with(kPrefix) && name.size() == kPrefix.size() + kDigits &&
         name.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string::npos;
}

}  // namespace sluice
