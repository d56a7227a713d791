// SPDX-License-Identifier: Apache-2.0
// The file of one attachment: its name, its content, and how it gets to disk.
//   name     <IPv4 address>-<endpoint id>-<first 16 hex digits of SHA-256 of the key>.json
//   content  one line of JSON, one line with the SHA-256 of the first
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "daemon/ipam/ipam.h"

namespace sluice::ipam {

inline constexpr std::string_view kRecordSuffix = ".json";
inline constexpr std::string_view kTemporarySuffix = ".tmp";
inline constexpr std::string_view kCorruptSuffix = ".json.corrupt";

[[nodiscard]] std::string sha256(std::string_view text);  // in hexadecimal digits
[[nodiscard]] std::string key_digest(const AttachmentKey& key);
[[nodiscard]] std::string record_name(const Attachment& attachment);
// From a record's name with whatever suffix; none: not such a name.
[[nodiscard]] std::optional<DamagedRecord> parse_name(const std::string& file);

[[nodiscard]] std::string encode(const Attachment& attachment);
// Every byte is covered: an error unless `content` is exactly what encode() made.
[[nodiscard]] Result<Attachment> decode(const std::string& content);

[[nodiscard]] Result<std::string> read_file(const std::string& path);
// Beside and renamed. No fsync: the folder is on tmpfs, and a crash of the process loses nothing that was
// written.
[[nodiscard]] Result<void> write_file(const std::string& path, const std::string& content);

}  // namespace sluice::ipam
