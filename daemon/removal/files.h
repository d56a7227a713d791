// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "daemon/removal/removal.h"
#include "daemon/removal/report.h"

namespace sluice::removal {

// The file that a daemon locks beside its socket.
[[nodiscard]] std::string lock_of_socket(const std::string& run_dir);

// The socket, the records of attachments and queued deletions. The folders themselves go if nothing else is
// in them and nothing is mounted there.
void remove_files(const Places& places, Report& report);

}  // namespace sluice::removal
