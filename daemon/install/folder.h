// SPDX-License-Identifier: Apache-2.0
// Files in folders that others use at the same time: the runtime reads them, other plugins' installers write.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace sluice::install {

inline constexpr std::size_t kConfigurationMost = 1 << 20;
inline constexpr std::size_t kBinaryMost = 256 << 20;

// What stands under a name: of a symbolic link, the link. A container of Sluice's sees the node's folder but
// not what its links point to.
enum class Kind { kNothing, kFile, kLink, kOther };
[[nodiscard]] Kind kind_of(const std::string& path);

// Names of files and symbolic links, sorted. A folder that is missing has none if `may_miss`.
[[nodiscard]] Result<std::vector<std::string>> files_in(const std::string& folder, bool may_miss = false);

// The content of a file; empty if there is nothing, or a symbolic link.
[[nodiscard]] Result<std::string> content_of(const std::string& path, std::size_t most);

// A reader finds the file before or this one, whole; so does who looks after a loss of power. A symbolic link
// of that name is replaced, what it points to stays.
[[nodiscard]] Result<void> write_whole(const std::string& folder, const std::string& name,
                                       std::string_view content, mode_t mode);

// Is it the name of a file that write_whole() in this process has not finished?
[[nodiscard]] bool is_unfinished(std::string_view name);

// What write_whole() was interrupted in goes. True: there was something.
[[nodiscard]] Result<bool> take_interrupted(const std::string& folder, const std::string& name);
// That, and the file. True: the file was there.
[[nodiscard]] Result<bool> take_away(const std::string& folder, const std::string& name);

}  // namespace sluice::install
