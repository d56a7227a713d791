// SPDX-License-Identifier: Apache-2.0
#include "daemon/ipam/ipam.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <tuple>

#include "common/fault_point.h"
#include "daemon/ipam/record.h"

namespace sluice::ipam {

namespace fs = std::filesystem;

namespace {

// The last address and endpoint id given out, so that going round survives a restart. Losing it costs only
// the rest that an address gets before it is given again.
constexpr const char* kCursorFile = "/cursor";

// For some more records.
constexpr std::uint64_t kRoomWanted = 64 << 10, kFilesWanted = 4;

Pool::Cursor read_cursor(const std::string& folder) {
  const auto content = read_file(folder + kCursorFile);
  if (!content) return {};
  const auto space = content->find(' ');
  const auto address = Address::parse(content->substr(0, space));
  Pool::Cursor cursor;
  if (!address || !address->is_v4() || space == std::string::npos) return {};
  const char* end = content->data() + content->size();
  if (std::from_chars(content->data() + space + 1, end, cursor.endpoint).ec != std::errc()) return {};
  if (cursor.endpoint >= SLUICE_MAX_ENDPOINTS) return {};
  cursor.ipv4 = *address;
  return cursor;
}

Result<void> make_folder(const std::string& folder) {
  std::error_code error;
  if (fs::is_directory(folder, error)) return {};
  fs::create_directories(fs::path(folder).parent_path(), error);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return failure_errno(errno, "create the folder of attachments " + folder);
  return {};
}

std::string describe(const std::vector<Prefix>& cidrs) {
  std::string text;
  for (const auto& cidr : cidrs) text += (text.empty() ? "" : ", ") + cidr.to_string();
  return text;
}

}  // namespace

bool Attachment::operator==(const Attachment& other) const {
  const auto parts = [](const Attachment& a) {
    return std::tie(a.key, a.endpoint, a.ipv4, a.pod_cidr, a.netns, a.host_ifname, a.host_ifindex,
                    a.pod_namespace, a.pod_name, a.pod_uid, a.network, a.host_ports);
  };
  const bool same_pod =
      last_pod && other.last_pod ? *last_pod == *other.last_pod : last_pod == other.last_pod;
  return same_pod && parts(*this) == parts(other);
}

Result<Ipam> Ipam::open(const std::string& folder) {
  if (auto made = make_folder(folder); !made) return tl::unexpected(made.error());
  std::error_code error;
  Ipam ipam(folder);
  std::vector<std::string> records;
  fs::directory_iterator entry(folder, error);
  if (error) return failure_errno(error.value(), "read the folder of attachments " + folder);
  for (; entry != fs::directory_iterator(); entry.increment(error)) {
    if (error) return failure_errno(error.value(), "read the folder of attachments " + folder);
    const auto name = entry->path().filename().string();
    if (name.ends_with(kTemporarySuffix)) {
      // A write that a crash cut short, before its rename: nothing was promised yet.
      if (::unlink(entry->path().c_str()) != 0)
        return failure_errno(errno, "remove " + entry->path().string());
    } else if (name.ends_with(kCorruptSuffix)) {
      ipam.remember_damaged(name, "it was set aside by an earlier start");
    } else if (name.ends_with(kRecordSuffix)) {
      records.push_back(name);
    }
  }
  std::sort(records.begin(),
            records.end());  // which of two that contradict each other stays does not depend on chance
  for (const auto& name : records)
    if (auto done = ipam.load(name); !done) return tl::unexpected(done.error());
  ipam.pool_.set_cursor(read_cursor(folder));
  return ipam;
}

Result<void> Ipam::load(const std::string& file) {
  const auto content = read_file(folder_ + "/" + file);
  if (!content) return set_aside(file, content.error().message);
  const auto attachment = decode(*content);
  if (!attachment) return set_aside(file, attachment.error().message);
  if (record_name(*attachment) != file) return set_aside(file, "its content belongs to another file name");
  if (attachments_.contains(attachment->key) || pool_.endpoint_taken(attachment->endpoint) ||
      pool_.address_taken(attachment->ipv4))
    return set_aside(file, "another record has its attachment, endpoint id or address");
  pool_.take(attachment->endpoint, attachment->ipv4);
  attachments_.emplace(attachment->key, *attachment);
  return {};
}

Result<void> Ipam::set_aside(const std::string& file, const std::string& why) {
  const std::string aside = file.substr(0, file.size() - kRecordSuffix.size()) + std::string(kCorruptSuffix);
  if (::rename((folder_ + "/" + file).c_str(), (folder_ + "/" + aside).c_str()) != 0)
    return failure_errno(errno, "move the damaged record " + folder_ + "/" + file + " aside");
  remember_damaged(aside, why);
  return {};
}

void Ipam::remember_damaged(const std::string& file, const std::string& why) {
  const auto record = parse_name(file);
  if (!record) {
    damaged_.push_back(
        fmt::format("{}/{} is no usable record of an attachment ({}); its name tells no address, so "
                    "none is reserved. Look at it and delete it",
                    folder_, file, why));
    return;
  }
  damaged_.push_back(
      fmt::format("{}/{} is no usable record of an attachment ({}); address {} and endpoint id {} stay "
                  "reserved until the pod is deleted",
                  folder_, file, why, record->ipv4.to_string(), record->endpoint));
  damaged_records_.push_back(*record);
  pool_.take(record->endpoint, record->ipv4);
}

void Ipam::set_pod_cidrs(std::vector<Prefix> cidrs) { pool_.set_cidrs(std::move(cidrs)); }

Result<Ipam::Free> Ipam::next_free() const {
  if (pool_.cidrs().empty())
    return failure(
        "this node has no IPv4 podCIDR with room for pods yet; look at spec.podCIDRs of its Node object");
  const auto address = pool_.next_address(clock_());
  if (!address)
    return failure(
        "no address left in {}: {} of {} are held, by {} attachments and {} damaged records. Give the node a "
        "larger podCIDR or run fewer pods on it; CNI GC gives back what no container has any more",
        describe(pool_.cidrs()), pool_.held_in_cidrs(), pool_.capacity(), attachments_.size(),
        damaged_records_.size());
  const auto endpoint = pool_.next_endpoint();
  if (!endpoint)
    return failure("all {} endpoint ids are in use; run fewer pods on this node", pool_.endpoints_held());
  return Free{*address, *endpoint};
}

Result<Attachment> Ipam::allocate(Attachment wanted) {
  const auto& key = wanted.key;
  if (attachments_.contains(key))
    return failure("container {} has an attachment by interface {} already", key.container_id, key.ifname);
  const auto digest = key_digest(key);
  for (const auto& record : damaged_records_)
    if (record.key_digest == digest)
      return tl::unexpected(
          Error{fmt::format("container {} has an attachment by interface {} already, whose record {}/{} is "
                            "damaged; DEL must come before another ADD",
                            key.container_id, key.ifname, folder_, record.file),
                EEXIST});
  const auto free = next_free();
  if (!free) return tl::unexpected(free.error());
  wanted.ipv4 = free->ipv4;
  wanted.endpoint = free->endpoint;
  wanted.pod_cidr =
      *std::ranges::find_if(pool_.cidrs(), [&](const Prefix& cidr) { return cidr.contains(wanted.ipv4); });
  const auto path = folder_ + "/" + record_name(wanted);
  if (auto done = write_file(path, encode(wanted)); !done)
    return with_context(done.error(), "record the attachment");
  pool_.take(wanted.endpoint, wanted.ipv4);
  pool_.set_cursor({wanted.endpoint, wanted.ipv4});
  attachments_.emplace(wanted.key, wanted);
  ++revision_;
  SLUICE_FAULT_POINT("ipam.recorded");
  // Its failure is no reason to fail an ADD: only the order after a restart depends on it.
  (void)write_file(folder_ + kCursorFile, fmt::format("{} {}\n", wanted.ipv4.to_string(), wanted.endpoint));
  return wanted;
}

Result<void> Ipam::restore(const Attachment& attachment) {
  const auto& [container, ifname] = attachment.key;
  if (attachments_.contains(attachment.key))
    return failure("container {} has an attachment by interface {} already", container, ifname);
  if (pool_.endpoint_taken(attachment.endpoint) || pool_.address_taken(attachment.ipv4))
    return failure("another attachment has address {} or endpoint id {}", attachment.ipv4.to_string(),
                   attachment.endpoint);
  if (auto done = write_file(folder_ + "/" + record_name(attachment), encode(attachment)); !done)
    return with_context(done.error(), "record the attachment");
  pool_.take(attachment.endpoint, attachment.ipv4);
  attachments_.emplace(attachment.key, attachment);
  ++revision_;
  return {};
}

Result<void> Ipam::update(const Attachment& attachment) {
  const auto found = attachments_.find(attachment.key);
  if (found == attachments_.end())
    return failure("container {} has no attachment by interface {}", attachment.key.container_id,
                   attachment.key.ifname);
  if (found->second.endpoint != attachment.endpoint || found->second.ipv4 != attachment.ipv4)
    return failure("an attachment keeps its address and endpoint id: {} and {}",
                   found->second.ipv4.to_string(), found->second.endpoint);
  if (auto done = write_file(folder_ + "/" + record_name(attachment), encode(attachment)); !done)
    return with_context(done.error(), "record the attachment");
  found->second = attachment;
  ++revision_;
  return {};
}

Result<void> Ipam::release(const AttachmentKey& key) {
  if (const auto found = attachments_.find(key); found != attachments_.end()) {
    const auto path = folder_ + "/" + record_name(found->second);
    SLUICE_FAILURE_POINT("ipam.release_begun");
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failure_errno(errno, "remove " + path);
    SLUICE_FAULT_POINT("ipam.unlinked");
    attachments_.erase(found);
    ++revision_;
    recount();
  }
  const auto digest = key_digest(key);
  const auto damaged = std::find_if(damaged_records_.begin(), damaged_records_.end(),
                                    [&](const DamagedRecord& record) { return record.key_digest == digest; });
  return damaged == damaged_records_.end() ? Result<void>() : drop_damaged(*damaged);
}

Result<void> Ipam::drop_damaged(const DamagedRecord& record) {
  const auto path = folder_ + "/" + record.file;
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failure_errno(errno, "remove " + path);
  std::erase_if(damaged_records_,
                [file = record.file](const DamagedRecord& other) { return other.file == file; });
  recount();
  return {};
}

Result<std::size_t> Ipam::put_back() {
  if (auto made = make_folder(folder_); !made) return tl::unexpected(made.error());
  std::size_t written = 0;
  for (const auto& [key, attachment] : attachments_) {
    const auto path = folder_ + "/" + record_name(attachment);
    if (::access(path.c_str(), F_OK) == 0 || errno != ENOENT) continue;
    if (auto done = write_file(path, encode(attachment)); !done)
      return with_context(done.error(), "record the attachment again");
    ++written;
  }
  struct statvfs about {};
  if (::statvfs(folder_.c_str(), &about) != 0) return failure_errno(errno, "look at " + folder_);
  if ((about.f_flag & ST_RDONLY) != 0)
    return failure("no attachment can be recorded: {} is mounted read-only", folder_);
  // Some file systems tell no numbers.
  const auto room = static_cast<std::uint64_t>(about.f_bavail) * about.f_frsize;
  if ((about.f_blocks != 0 && room < kRoomWanted) || (about.f_files != 0 && about.f_favail < kFilesWanted))
    return failure("no attachment can be recorded: the file system of {} has room for {} bytes and {} files",
                   folder_, room, about.f_favail);
  return written;
}

std::optional<Attachment> Ipam::find(const AttachmentKey& key) const {
  const auto found = attachments_.find(key);
  return found == attachments_.end() ? std::nullopt : std::optional(found->second);
}

void Ipam::hold(std::uint32_t endpoint, const Address& ipv4) {
  held_.emplace(endpoint, ipv4);
  pool_.take(endpoint, ipv4);
}

void Ipam::unhold(std::uint32_t endpoint, const Address& ipv4) {
  held_.erase({endpoint, ipv4});
  const auto damaged = std::find_if(
      damaged_records_.begin(), damaged_records_.end(),
      [&](const DamagedRecord& record) { return record.endpoint == endpoint && record.ipv4 == ipv4; });
  // A file that cannot be removed keeps its reservation, which is the safe side; the next start tells of it
  // again.
  if (damaged != damaged_records_.end()) (void)drop_damaged(*damaged);
  recount();
}

// Two sources can hold the same id or address, so what is free after one let go follows from all.
void Ipam::recount() {
  std::set<std::uint32_t> endpoints;
  std::set<Address> addresses;
  const auto add = [&](std::uint32_t endpoint, const Address& ipv4) {
    if (endpoint != 0) endpoints.insert(endpoint);
    if (!ipv4.is_none()) addresses.insert(ipv4);
  };
  for (const auto& [key, attachment] : attachments_) add(attachment.endpoint, attachment.ipv4);
  for (const auto& [endpoint, ipv4] : held_) add(endpoint, ipv4);
  for (const auto& record : damaged_records_) add(record.endpoint, record.ipv4);
  pool_.keep(endpoints, addresses, clock_());
}

}  // namespace sluice::ipam
