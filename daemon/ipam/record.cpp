// SPDX-License-Identifier: Apache-2.0
#include "daemon/ipam/record.h"

#include <fcntl.h>
#include <openssl/sha.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/fault_point.h"
#include "common/fd.h"
#include "common/guard.h"

namespace sluice::ipam {

namespace {

constexpr std::size_t kDigestHex = 2 * SHA256_DIGEST_LENGTH;
constexpr std::size_t kNameDigits = 16;
constexpr std::size_t kRecordMost = 4u << 20;  // an object, and so its labels, has 1.5 MiB at most

// get_to() would cut 2^32 + 1 to 1, and 1e300 has no value at all in 32 bits. Zero: no such number, nor an
// id.
std::uint32_t number32(const nlohmann::json& value) {
  if (!value.is_number_unsigned()) return 0;
  const auto number = value.get<std::uint64_t>();
  return number <= std::numeric_limits<std::uint32_t>::max() ? static_cast<std::uint32_t>(number) : 0;
}

// Of the pod what its rules, its masquerading and its hooks depend on.
nlohmann::json pod_json(const model::Pod& pod) {
  auto ports = nlohmann::json::array();
  for (const auto& port : pod.ports)
    ports.push_back(
        {{"name", port.name}, {"protocol", static_cast<unsigned>(port.protocol)}, {"port", port.port}});
  nlohmann::json json{{"uid", pod.uid},
                      {"staticUID", pod.static_uid ? *pod.static_uid : ""},
                      {"labels", pod.labels.map()},
                      {"ports", std::move(ports)},
                      {"created", pod.created},
                      {"egressLimited", pod.egress_limited},
                      {"finished", pod.finished}};
  if (pod.masquerade) json["masquerade"] = *pod.masquerade;
  return json;
}

std::shared_ptr<const model::Pod> pod_from(const nlohmann::json& json, const Attachment& attachment) {
  if (json.is_null()) return nullptr;
  auto pod = std::make_shared<model::Pod>();
  pod->ns = attachment.pod_namespace;
  pod->name = attachment.pod_name;
  json.at("uid").get_to(pod->uid);
  if (auto uid = json.at("staticUID").get<std::string>(); !uid.empty()) pod->static_uid = std::move(uid);
  pod->labels = model::Labels(json.at("labels").get<model::Labels::Map>());
  model::ContainerPorts::List ports;
  for (const auto& port : json.at("ports"))
    ports.push_back({port.at("name").get<std::string>(),
                          static_cast<model::Protocol>(port.at("protocol").get<std::uint8_t>()),
                          port.at("port").get<std::uint16_t>()});
  pod->ports = std::move(ports);
  json.at("created").get_to(pod->created);
  json.at("egressLimited").get_to(pod->egress_limited);
  json.at("finished").get_to(pod->finished);
  if (json.contains("masquerade")) pod->masquerade = json.at("masquerade").get<bool>();
  return pod;
}

}  // namespace

std::string sha256(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::string hex;
  for (const auto byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

std::string key_digest(const AttachmentKey& key) {
  // The zero keeps ("ab", "c") and ("a", "bc") apart; neither part can contain one.
  return sha256(key.container_id + '\0' + key.ifname).substr(0, kNameDigits);
}

std::string record_name(const Attachment& attachment) {
  return fmt::format("{}-{}-{}{}", attachment.ipv4.to_string(), attachment.endpoint,
                     key_digest(attachment.key), kRecordSuffix);
}

std::optional<DamagedRecord> parse_name(const std::string& file) {
  const auto stem = std::string_view(file).substr(0, file.find(kRecordSuffix));
  const auto first = stem.find('-');
  const auto second = first == std::string_view::npos ? first : stem.find('-', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const auto address = Address::parse(stem.substr(0, first));
  const auto digits = stem.substr(first + 1, second - first - 1);
  DamagedRecord record{file, 0, {}, std::string(stem.substr(second + 1))};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), record.endpoint);
  if (!address || !address->is_v4() || error != std::errc() || end != digits.data() + digits.size() ||
      record.endpoint == 0 || record.endpoint >= SLUICE_MAX_ENDPOINTS ||
      record.key_digest.size() != kNameDigits)
    return std::nullopt;
  record.ipv4 = *address;
  return record;
}

std::string encode(const Attachment& attachment) {
  nlohmann::json json{{"containerID", attachment.key.container_id},
                      {"ifname", attachment.key.ifname},
                      {"endpoint", attachment.endpoint},
                      {"address", attachment.ipv4.to_string()},
                      {"netns", attachment.netns},
                      {"hostIfname", attachment.host_ifname},
                      {"hostIfindex", attachment.host_ifindex},
                      {"podNamespace", attachment.pod_namespace},
                      {"podName", attachment.pod_name},
                      {"podUID", attachment.pod_uid},
                      {"network", attachment.network},
                      {"hostPorts", host_ports_json(attachment.host_ports)}};
  if (attachment.pod_cidr) json["podCIDR"] = attachment.pod_cidr->to_string();
  if (attachment.last_pod) json["pod"] = pod_json(*attachment.last_pod);
  // Bytes that are not UTF-8 cannot come back as they were; the escaped form keeps the record readable.
  const auto line = json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  return line + "\n" + sha256(line) + "\n";
}

Result<Attachment> decode(const std::string& content) {
  const auto newline = content.find('\n');
  if (newline == std::string::npos || content.size() != newline + 1 + kDigestHex + 1 ||
      content.back() != '\n')
    return failure("it is cut short, or more than a record");
  const auto line = std::string_view(content).substr(0, newline);
  if (sha256(line) != std::string_view(content).substr(newline + 1, kDigestHex))
    return failure("its checksum does not match");
  try {
    const auto json = nlohmann::json::parse(line);
    Attachment attachment;
    json.at("containerID").get_to(attachment.key.container_id);
    json.at("ifname").get_to(attachment.key.ifname);
    attachment.endpoint = number32(json.at("endpoint"));
    json.at("netns").get_to(attachment.netns);
    json.at("hostIfname").get_to(attachment.host_ifname);
    attachment.host_ifindex = number32(json.at("hostIfindex"));
    json.at("podNamespace").get_to(attachment.pod_namespace);
    json.at("podName").get_to(attachment.pod_name);
    json.at("podUID").get_to(attachment.pod_uid);
    json.at("network").get_to(attachment.network);
    // Records of before host ports have none.
    auto host_ports = parse_host_ports(json.value("hostPorts", nlohmann::json()));
    if (!host_ports) return tl::unexpected(host_ports.error());
    attachment.host_ports = std::move(*host_ports);
    // Records of before it have none: such a pod is not known until its object is.
    attachment.last_pod = pod_from(json.value("pod", nlohmann::json()), attachment);
    auto address = Address::parse(json.at("address").get<std::string>());
    if (!address) return tl::unexpected(address.error());
    attachment.ipv4 = *address;
    if (json.contains("podCIDR")) {
      const auto cidr = Prefix::parse(json.at("podCIDR").get<std::string>());
      if (!cidr) return tl::unexpected(cidr.error());
      if (!cidr->contains(attachment.ipv4)) return failure("its address is not in its podCIDR");
      attachment.pod_cidr = *cidr;
    }
    const bool good = attachment.ipv4.is_v4() && attachment.endpoint > 0 &&
                      attachment.endpoint < SLUICE_MAX_ENDPOINTS && attachment.host_ifindex > 0 &&
                      !attachment.key.container_id.empty() && !attachment.key.ifname.empty();
    if (!good) return failure("its address, endpoint id, interface index or key cannot be");
    return attachment;
  } catch (const nlohmann::json::exception& error) {
    return failure("it is not a record of this version: {}", error.what());
  }
}

Result<std::string> read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return failure_errno(errno, "read " + path);
  std::string content;
  std::array<char, 4096> part{};
  while (true) {
    const auto got = ::read(fd.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure_errno(errno, "read " + path);
    if (got == 0) return content;
    content.append(part.data(), static_cast<std::size_t>(got));
    if (content.size() > kRecordMost) return failure("{} is larger than any record", path);
  }
}

Result<void> write_file(const std::string& path, const std::string& content) {
  const std::string temporary = path + std::string(kTemporarySuffix);
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return failure_errno(errno, "create " + temporary);
  Guard remove([&] { ::unlink(temporary.c_str()); });
  SLUICE_FAILURE_POINT("ipam.part_made");
  for (std::size_t done = 0; done < content.size();) {
    const auto put = ::write(fd.get(), content.data() + done, content.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return failure_errno(errno, "write " + temporary);
    done += static_cast<std::size_t>(put);
  }
  fd.reset();
  SLUICE_FAILURE_POINT("ipam.part_written");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failure_errno(errno, "rename " + temporary);
  remove.dismiss();
  SLUICE_FAULT_POINT("ipam.renamed");
  return {};
}

}  // namespace sluice::ipam
