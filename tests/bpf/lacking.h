// SPDX-License-Identifier: Apache-2.0
// What tests need and not every kernel has. Each of these asks the kernel's types; where it lacks the thing,
// the test ends here and is told as skipped, with the reason.
#pragma once

namespace sluice::bpftest {

// Packets as the VXLAN device receives them are made by setting the source of a packet that is to be sent.
void need_tunnel_source();
// The programs write the tunnel's headers themselves.
void need_tunnel_headers();
// The memory of a deleted element is the next one's without a grace period between.
void need_elements_given_at_once();

}  // namespace sluice::bpftest
