// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>

#include "common/fd.h"

namespace sluice::source {

// Ends another thread's network operation in whatever state it is: connecting, in a TLS handshake, waiting
// for data. Holds a descriptor of its own of the socket, so it cannot hit one that was closed and whose
// number was reused.
class Interrupter {
 public:
  void attach(int socket);
  void detach();  // the operation is over; the socket is not kept from closing
  // Shuts the socket down. May come before connect(), when it has no effect: fire until the operation has
  // ended.
  void fire();

 private:
  std::mutex mutex_;
  Fd socket_;
};

}  // namespace sluice::source
