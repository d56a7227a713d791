// SPDX-License-Identifier: Apache-2.0
#include "daemon/ipam/link_note.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <sstream>

#include "bpf/abi.h"
#include "common/host_link.h"

namespace sluice::ipam {

namespace {

constexpr const char* kMark = "sluice";
constexpr const char* kNone = "-";
constexpr const char* kNoRoom = "?";

std::string or_none(const std::string& text) { return text.empty() ? kNone : text; }
std::string without_none(const std::string& text) { return text == kNone ? "" : text; }

std::string note(const Attachment& a, const std::string& pod, const std::string& uid) {
  return fmt::format("{} {} {} {} {} {} {} {} {}", kMark, a.ipv4.to_string(), a.endpoint, a.key.container_id,
                     a.key.ifname, or_none(a.network), pod, uid, a.host_ports.size());
}

template <typename Number>
bool read_number(const std::string& text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string note_of(const Attachment& attachment) {
  const auto pod =
      attachment.pod_name.empty() ? kNone : attachment.pod_namespace + "/" + attachment.pod_name;
  auto whole = note(attachment, pod, or_none(attachment.pod_uid));
  return whole.size() <= kNoteMost ? whole : note(attachment, kNoRoom, kNone);
}

bool has_note(const Link& link) { return link.alias.starts_with(std::string(kMark) + " "); }

std::optional<Noted> read_note(const Link& link) {
  std::istringstream words(link.alias);
  std::array<std::string, 9> part;
  for (auto& each : part) words >> each;
  std::string more;
  if (!words || words >> more || part[0] != kMark) return std::nullopt;
  Noted noted;
  auto& attachment = noted.attachment;
  const auto address = Address::parse(part[1]);
  if (!address || !address->is_v4() || !read_number(part[2], attachment.endpoint) ||
      attachment.endpoint == 0 || attachment.endpoint >= SLUICE_MAX_ENDPOINTS ||
      !read_number(part[8], noted.host_ports) || host_link_name(part[3], part[4]) != link.name)
    return std::nullopt;
  attachment.ipv4 = *address;
  attachment.key = {part[3], part[4]};
  attachment.network = without_none(part[5]);
  attachment.host_ifname = link.name;
  attachment.host_ifindex = static_cast<std::uint32_t>(link.index);
  noted.pod_known = part[6] != kNoRoom;
  if (!noted.pod_known || part[6] == kNone) return noted;
  const auto slash = part[6].find('/');
  if (slash == std::string::npos) return std::nullopt;
  attachment.pod_namespace = part[6].substr(0, slash);
  attachment.pod_name = part[6].substr(slash + 1);
  attachment.pod_uid = without_none(part[7]);
  return noted;
}

}  // namespace sluice::ipam
