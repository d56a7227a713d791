// SPDX-License-Identifier: Apache-2.0
#include "daemon/install/others.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "daemon/install/conflist.h"
#include "daemon/install/folder.h"
#include "daemon/source/files.h"

namespace sluice::install {

namespace {

constexpr std::string_view kAside = ".before-sluice";

// As libcni has it: hidden ones, too.
bool is_read_by_the_runtime(const std::string& name) {
  return name.ends_with(".conf") || name.ends_with(".conflist") || name.ends_with(".json");
}

}  // namespace

bool OtherConfigurations::calls_sluice(const std::string& name) const {
  const auto text = content_of(path(name), kConfigurationMost);
  const auto configuration = text ? parse_configuration(*text) : tl::unexpected(text.error());
  return configuration && leads_to_sluice(*configuration);
}

Result<std::vector<std::string>> OtherConfigurations::select(bool lead_to_sluice) const {
  auto names = files_in(folder_, true);
  if (!names) return names;
  std::erase_if(*names, [&](const std::string& name) {
    return name == kConflist || !is_read_by_the_runtime(name) || calls_sluice(name) != lead_to_sluice;
  });
  return names;
}

Result<std::vector<std::string>> OtherConfigurations::put_aside() {
  auto others = select(false);
  if (!others) return others;
  std::vector<std::string> again;
  for (const auto& name : *others) {
    const auto aside = path(name) + std::string(kAside);
    if (rename(path(name).c_str(), aside.c_str()) != 0) {
      if (errno == ENOENT) continue;
      return failure_errno(errno, "rename " + path(name) + " (chart value cni.exclusive)");
    }
    if (aside_.insert(name).second)
      spdlog::warn("{} is put aside as {}: Sluice is this node's network (chart value cni.exclusive)",
                   source::ascii(path(name)), source::ascii(aside));
    else
      again.push_back(name);
  }
  return again;
}

Result<std::string> OtherConfigurations::before_ours() const {
  const auto others = select(false);
  if (!others) return tl::unexpected(others.error());
  return others->empty() || others->front() > kConflist ? std::string() : others->front();
}

Result<std::vector<std::string>> OtherConfigurations::leading_to_sluice() const { return select(true); }

Result<void> OtherConfigurations::bring_back(Callers callers) const {
  const auto names = files_in(folder_, true);
  if (!names) return tl::unexpected(names.error());
  std::vector<std::string> problems;
  const auto failed = [&](const std::string& what) {
    if (errno != ENOENT) problems.push_back(failure_errno(errno, what).value().message);
  };
  for (const auto& name : *names) {
    if (!name.ends_with(kAside) || name.size() == kAside.size()) continue;
    const auto original = name.substr(0, name.size() - kAside.size());
    const bool calls = calls_sluice(original);
    if (calls && callers == Callers::kStay) continue;
    // What its owner has written meanwhile is newer.
    if (!calls && kind_of(path(original)) != Kind::kNothing) {
      if (unlink(path(name).c_str()) != 0) failed("remove " + path(name));
    } else if (rename(path(name).c_str(), path(original).c_str()) != 0) {
      failed("rename " + path(name));
    } else {
      spdlog::info("{} is back", source::ascii(path(original)));
    }
  }
  if (problems.empty()) return {};
  return failure("{}", fmt::join(problems, "; "));
}

}  // namespace sluice::install
