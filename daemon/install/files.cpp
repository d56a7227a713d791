// SPDX-License-Identifier: Apache-2.0
#include "daemon/install/files.h"

#include <spdlog/spdlog.h>

#include <cerrno>

#include "daemon/install/folder.h"
#include "daemon/source/files.h"

namespace sluice::install {

namespace {

constexpr const char* kLoopback = "loopback";
constexpr mode_t kBinaryMode = 0755;
constexpr mode_t kConflistMode = 0644;

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size && a.st_mode == b.st_mode &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec &&
         a.st_ctim.tv_sec == b.st_ctim.tv_sec && a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

// The binaries first: from the moment the list is there, the runtime calls them. Runtimes call `loopback`
// too: where the node has one it stays, unless it is ours of an earlier version.
Result<bool> NodeFiles::put_binaries() {
  const auto path = options_.bin_dir + "/" + kPlugin;
  const auto loopback = options_.bin_dir + "/" + kLoopback;
  struct stat now {};
  const bool there = lstat(path.c_str(), &now) == 0;
  const bool has_loopback = kind_of(loopback) != Kind::kNothing;
  if (there && has_loopback && binary_ && same_file(*binary_, now)) return false;
  const auto wanted = source::read_file(options_.plugin, kBinaryMost);
  if (!wanted) return tl::unexpected(wanted.error());
  const auto ours = content_of(path, kBinaryMost);
  if (!ours) return tl::unexpected(ours.error());
  const auto other = kind_of(loopback) == Kind::kFile ? content_of(loopback, kBinaryMost) : std::string();
  if (!other) return tl::unexpected(other.error());
  bool changed = false;
  if (!has_loopback || (!ours->empty() && *other == *ours && *other != *wanted)) {
    if (auto done = write_whole(options_.bin_dir, kLoopback, *wanted, kBinaryMode); !done)
      return tl::unexpected(done.error());
    changed = true;
  }
  if (*ours != *wanted || (now.st_mode & kBinaryMode) != kBinaryMode) {
    if (auto done = write_whole(options_.bin_dir, kPlugin, *wanted, kBinaryMode); !done)
      return tl::unexpected(done.error());
    changed = true;
  }
  if (lstat(path.c_str(), &now) != 0) return failure_errno(errno, path);
  binary_ = now;
  return changed;
}

Result<bool> NodeFiles::put_conflist() {
  if (!ours_) {
    const auto text = source::read_file(options_.conflist, kConfigurationMost);
    if (!text) return tl::unexpected(text.error());
    auto list = parse_own_list(*text);
    if (!list) return with_context(list.error(), options_.conflist);
    if (!begins_with_sluice(*list)) return failure("{}: {} is not first", options_.conflist, kPlugin);
    ours_ = std::move(*list);
  }
  const auto there = content_of(options_.net_dir + "/" + kConflist, kConfigurationMost);
  if (!there) return tl::unexpected(there.error());
  // What is no list of ours, or is gone, says nothing about what others want in it.
  const auto on_node = parse_own_list(*there);
  const auto wanted = on_node ? with_added(*ours_, *on_node) : last_ ? *last_ : without_added(*ours_);
  last_ = wanted;
  if (on_node && *on_node == wanted) return false;
  if (auto done = write_whole(options_.net_dir, kConflist, wanted.dump(2) + "\n", kConflistMode); !done)
    return tl::unexpected(done.error());
  return true;
}

Result<void> NodeFiles::heed_others(Look& look) {
  if (!options_.exclusive) {
    if (!brought_back_) {
      if (auto done = others_.bring_back(OtherConfigurations::Callers::kStay); !done) return done;
      brought_back_ = true;
    }
    const auto first = others_.before_ours();
    if (!first) return tl::unexpected(first.error());
    if (!first->empty())
      return failure(
          "{}/{} stands before {}, so the runtime gives pods that network and not Sluice's: remove it, or "
          "set the chart value cni.exclusive, by which it is put aside",
          options_.net_dir, *first, kConflist);
    return {};
  }
  const auto again = others_.put_aside();
  if (!again) return tl::unexpected(again.error());
  for (const auto& name : *again)
    look.found.push_back(options_.net_dir + "/" + name + ", of another network, is there again");
  return {};
}

Look NodeFiles::put_back() {
  Look look;
  const auto failed = [&](const Error& error) {
    if (look.problem.empty()) look.problem = error.message;
  };
  const auto note = [&](const Result<bool>& done, const std::string& path) {
    if (!done)
      failed(done.error());
    else if (*done && placed_)
      look.found.push_back(path + " is missing or not as Sluice wrote it");
    return done.has_value();
  };
  const bool ours = note(put_binaries(), options_.bin_dir + "/" + kPlugin) &&
                    note(put_conflist(), options_.net_dir + "/" + kConflist);
  if (ours) placed_ = true;
  // A node keeps the network that it has until it can have Sluice's.
  if (ours || !options_.exclusive)
    if (const auto done = heed_others(look); !done) failed(done.error());
  look.problem = source::ascii(look.problem);
  for (auto& each : look.found) each = source::ascii(each);
  return look;
}

Result<std::vector<std::string>> remove_node_files(const std::string& bin_dir, const std::string& net_dir) {
  std::vector<std::string> removed, problems;
  const auto worked = [&](const auto& done) {
    if (!done) problems.push_back(done.error().message);
    return done.has_value();
  };
  const auto take = [&](const std::string& folder, const std::string& name) {
    const auto taken = take_away(folder, name);
    if (taken && *taken) removed.push_back(folder + "/" + name);
    return worked(taken);
  };
  const auto list =
      content_of(net_dir + "/" + kConflist, kConfigurationMost).and_then([](const std::string& text) {
        return parse_own_list(text);
      });
  // The list first: the runtime must not call a binary that is gone.
  const bool list_is_gone = take(net_dir, kConflist);
  if (const auto added = list ? added_types(*list) : std::vector<std::string>();
      list_is_gone && !added.empty())
    spdlog::warn("{} were in {} by others: they are to add themselves to the next network's list",
                 source::ascii(joined(added)), kConflist);
  const OtherConfigurations others(net_dir);
  worked(others.bring_back(OtherConfigurations::Callers::kMakeRoom));
  if (const auto calling = others.leading_to_sluice(); calling && !calling->empty())
    spdlog::warn("{} in {} still call Sluice: remove them, or let their owners write them anew",
                 source::ascii(joined(*calling)), net_dir);
  worked(take_interrupted(bin_dir, kLoopback));
  // Ours only while it is a copy of ours: the node may have got its own meanwhile.
  const auto ours = content_of(bin_dir + "/" + kPlugin, kBinaryMost);
  const auto loopback = content_of(bin_dir + "/" + kLoopback, kBinaryMost);
  const bool is_copy = ours && loopback && !ours->empty() && *ours == *loopback;
  const bool copy_is_gone = !is_copy || take(bin_dir, kLoopback);
  // By the plugin the copy is known when this is tried again.
  if (list_is_gone && copy_is_gone) take(bin_dir, kPlugin);
  if (problems.empty()) return removed;
  for (const auto& path : removed) spdlog::info("removed {}", path);
  return failure("{}", source::ascii(fmt::format("{}", fmt::join(problems, "; "))));
}

}  // namespace sluice::install
