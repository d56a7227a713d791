// SPDX-License-Identifier: Apache-2.0
// Addresses of pods from the node's podCIDRs, and the record of every attachment. One file an attachment in a
// folder (on tmpfs: /run/sluice, since pods do not outlive a boot), written beside and renamed, so that a
// kill -9 leaves the old or the new state, never a half. Each file carries a checksum; a file that does not
// verify is moved aside
// (*.corrupt), reported, and its address and endpoint id (the file name carries them) stay taken until GC or
// DEL.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/address.h"
#include "common/host_port.h"
#include "common/result.h"
#include "daemon/ipam/pool.h"
#include "daemon/model/objects.h"

namespace sluice::ipam {

struct AttachmentKey {  // what identifies an attachment (CNI spec 1.1, section 2: container ID and interface
                        // name)
  std::string container_id;
  std::string ifname;
  auto operator<=>(const AttachmentKey&) const = default;
};

struct Attachment {
  AttachmentKey key;
  std::uint32_t endpoint = 0;  // endpoint id of the datapath
  Address ipv4;
  std::optional<Prefix> pod_cidr;  // of the node when the pod got the address; none: the record does not tell
  std::string netns;
  std::string host_ifname;
  std::uint32_t host_ifindex = 0;
  std::string pod_namespace, pod_name, pod_uid;  // empty: no Kubernetes pod
  std::string network;                           // name of the CNI configuration
  std::vector<HostPort> host_ports;
  // The pod as it was last known; none: never seen, or the record is of a daemon that did not write it.
  std::shared_ptr<const model::Pod> last_pod;
  bool operator==(const Attachment& other) const;
};

// What the name of a file that does not verify still tells.
struct DamagedRecord {
  std::string file;  // within the folder, *.corrupt
  std::uint32_t endpoint = 0;
  Address ipv4;
  std::string key_digest;
};

class Ipam {
 public:
  // Reads what is there. `damaged` tells of files that were moved aside, by this start or an earlier one.
  [[nodiscard]] static Result<Ipam> open(const std::string& folder);

  // Network address, gateway (the first) and broadcast address are never given out. Existing attachments keep
  // their addresses even when they lie outside of the new prefixes.
  void set_pod_cidrs(std::vector<Prefix> cidrs);

  struct Free {
    Address ipv4;
    std::uint32_t endpoint = 0;
  };
  // What allocate() would give to any key, or why it would fail.
  [[nodiscard]] Result<Free> next_free() const;
  // Reserves an address and an endpoint id for `key`, on disk before it returns. Addresses go round the
  // prefixes, and one that was given back rests (Pool::kRest) unless nothing else is free. A restart forgets
  // who rests but not where the round is. Fails: the key has an attachment
  // already, no prefix known yet, or no address left (the message says how many are held and what to do).
  [[nodiscard]] Result<Attachment> allocate(Attachment wanted);
  // Records an attachment that has its address and its endpoint id, whose record was lost. Fails if either is
  // another's.
  [[nodiscard]] Result<void> restore(const Attachment& attachment);
  [[nodiscard]] Result<void> update(const Attachment& attachment);  // the same key, endpoint and address
  // Not there: no error. The damaged record of that key goes too.
  [[nodiscard]] Result<void> release(const AttachmentKey& key);

  // Writes records again that somebody has removed, and tells how many. Fails if no further one could be
  // written.
  [[nodiscard]] Result<std::size_t> put_back();

  [[nodiscard]] std::optional<Attachment> find(const AttachmentKey& key) const;
  [[nodiscard]] const std::map<AttachmentKey, Attachment>& attachments() const { return attachments_; }
  // Another number after each change of attachments(); never 0.
  [[nodiscard]] std::uint64_t revision() const { return revision_; }
  [[nodiscard]] const std::vector<std::string>& damaged() const { return damaged_; }
  [[nodiscard]] const std::vector<DamagedRecord>& damaged_records() const { return damaged_records_; }
  void set_clock(std::function<Pool::Clock::time_point()> clock) { clock_ = std::move(clock); }  // for tests
  [[nodiscard]] std::size_t capacity() const { return pool_.capacity(); }
  // An endpoint id or address that the datapath still holds though no file says so.
  void hold(std::uint32_t endpoint, const Address& ipv4);
  // The datapath holds it no longer: ends hold(), and the reservation of a damaged record of that endpoint
  // and address.
  void unhold(std::uint32_t endpoint, const Address& ipv4);

 private:
  explicit Ipam(std::string folder) : folder_(std::move(folder)) {}
  [[nodiscard]] Result<void> load(const std::string& file);
  [[nodiscard]] Result<void> set_aside(const std::string& file, const std::string& why);
  void remember_damaged(const std::string& file, const std::string& why);
  [[nodiscard]] Result<void> drop_damaged(const DamagedRecord& record);
  void recount();

  std::function<Pool::Clock::time_point()> clock_ = Pool::Clock::now;
  std::string folder_;
  Pool pool_;
  std::map<AttachmentKey, Attachment> attachments_;
  std::uint64_t revision_ = 1;
  std::set<std::pair<std::uint32_t, Address>> held_;
  std::vector<DamagedRecord> damaged_records_;
  std::vector<std::string> damaged_;
};

}  // namespace sluice::ipam
