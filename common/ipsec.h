// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/result.h"

namespace sluice {

// Does this network namespace have IPsec policies (ip-xfrm(8))? Those of single sockets do not count. False
// where the kernel knows none.
[[nodiscard]] Result<bool> has_ipsec_policies();

}  // namespace sluice
