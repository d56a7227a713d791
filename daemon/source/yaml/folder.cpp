// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/yaml/folder.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

#include "daemon/source/files.h"

namespace sluice::source {

namespace {

constexpr std::size_t kFileMost = 16 << 20;

bool is_ours(const std::string& name) {
  // Hidden ones are editors' and, of a mounted ConfigMap, its versions.
  return !name.starts_with('.') &&
         (name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json"));
}

}  // namespace

Result<std::vector<std::string>> Folder::list() const try {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    auto name = entry.path().filename().string();
    std::error_code ignored;
    if (is_ours(name) && !entry.is_directory(ignored)) names.push_back(std::move(name));
  }
  return names;
} catch (const std::filesystem::filesystem_error& error) {
  return failure_errno(error.code().value(), "YAML folder " + path_);
}

void Folder::read(const std::string& name) {
  auto& file = files_.try_emplace(name, name).first->second;
  auto content = read_file(path_ + "/" + name, kFileMost);
  if (content) {
    file.update(std::move(*content));
  } else {
    file.unreadable(content.error().message);
  }
}

Result<Folder::Scanned> Folder::scan(Sink& sink) {
  const auto names = list();
  if (!names) return tl::unexpected(names.error());
  const std::set<std::string> present(names->begin(), names->end());
  std::erase_if(files_, [&](const auto& entry) { return !present.contains(entry.first); });
  for (const auto& name : present) read(name);

  Scanned scanned;
  std::map<model::ObjectKey, std::string> owner;
  std::array<std::vector<model::Object>, model::kKinds> objects;
  std::vector<std::string> said;
  for (const auto& [name, file] : files_) {
    scanned.problems.insert(scanned.problems.end(), file.problems().begin(), file.problems().end());
    said.insert(said.end(), file.warnings().begin(), file.warnings().end());
    for (const auto& [key, entry] : file.entries()) {
      const auto [first, is_first] = owner.try_emplace(key, fmt::format("{}:{}", name, entry.line));
      if (is_first) {
        objects[static_cast<std::size_t>(key.kind)].push_back(entry.object);
      } else {
        scanned.problems.push_back(fmt::format("{}:{}: {} stands in {} already; that one counts", name,
                                               entry.line, to_string(key), first->second));
      }
    }
  }
  FullState changed;
  scanned.held =
      !told_once_ && std::ranges::any_of(files_, [](const auto& entry) { return !entry.second.known(); });
  for (std::size_t i = 0; i < model::kKinds && !scanned.held; ++i) {
    if (told_once_ && objects[i] == told_[i]) continue;
    ++scanned.changed_kinds;
    told_[i] = objects[i];
    changed.emplace(static_cast<model::Kind>(i), std::move(objects[i]));
  }
  if (!changed.empty()) sink.replace(std::move(changed));
  told_once_ = told_once_ || !scanned.held;

  for (auto& problem : scanned.problems) {
    problem = ascii(std::move(problem));
    if (!reported_.contains(problem)) sink.rejected(problem);
  }
  for (auto& warning : said) {
    warning = ascii(std::move(warning));
    if (!reported_.contains(warning)) spdlog::warn("{}", warning);
  }
  reported_ = std::set<std::string>(scanned.problems.begin(), scanned.problems.end());
  reported_.insert(said.begin(), said.end());
  return scanned;
}

}  // namespace sluice::source
