// SPDX-License-Identifier: Apache-2.0
// What the host's end of a pod's link says about its attachment, in the link's alias (ip-link(8)): it lives as long as the
// link does, so that a record which is lost can be written again.
//   sluice <IPv4 address> <endpoint id> <container ID> <interface> <network> <namespace>/<pod> <pod's UID> <host ports>
// "-": there is none. "?" in the pod's place: there was no room. The host ports are a number.
#pragma once

#include <optional>
#include <string>

#include "common/netlink.h"
#include "daemon/ipam/ipam.h"

namespace sluice::ipam {

inline constexpr std::size_t kNoteMost = 255;  // IFALIASZ of the kernel, without the terminating zero

[[nodiscard]] std::string note_of(const Attachment& attachment);
[[nodiscard]] bool has_note(const Link& link);

struct Noted {
  Attachment attachment;       // as far as the note tells: no host ports, no pod's labels
  bool pod_known = false;      // false: whether it is a pod, and which, is not told
  std::size_t host_ports = 0;  // how many there were
};
// None: the link's alias is not what note_of() made for a link of this name.
[[nodiscard]] std::optional<Noted> read_note(const Link& link);

}  // namespace sluice::ipam
