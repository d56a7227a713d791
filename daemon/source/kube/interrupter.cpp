// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/interrupter.h"

#include <fcntl.h>
#include <sys/socket.h>

namespace sluice::source {

void Interrupter::attach(int socket) {
  const std::lock_guard lock(mutex_);
  socket_.reset(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
}

void Interrupter::detach() {
  const std::lock_guard lock(mutex_);
  socket_.reset();
}

void Interrupter::fire() {
  const std::lock_guard lock(mutex_);
  if (socket_) ::shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace sluice::source
