// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <system_error>
#include <utility>

namespace sluice::server {

using namespace std::chrono_literals;

namespace {
constexpr auto kGrace = 200ms;     // a connection this young is not dropped for others
constexpr auto kIdle = 10s;        // after which a thread ends
constexpr int kQueueCheckMs = 50;  // how often a queue that does not move is looked at
constexpr std::size_t kMostQueued = 128;
constexpr std::size_t kMostQueuedOfASource = 8;

// An IPv6 host has all addresses of its /64.
std::string source_of(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address).sin_addr;
    return {reinterpret_cast<const char*>(&v4), sizeof v4};
  }
  if (address.ss_family != AF_INET6) return {};
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  const auto* bytes = reinterpret_cast<const char*>(v6.s6_addr);
  // An IPv4 client of an IPv6 socket: all of them share the first 8 bytes.
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return {bytes + 12, 4};
  return {bytes, 8};
}
}  // namespace

Acceptor::Acceptor(std::size_t most_threads, Serve serve)
    : wake_up_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      most_threads_(most_threads),
      serve_(std::move(serve)) {
  if (!wake_up_) throw std::system_error(errno, std::generic_category(), "make an eventfd");
  acceptor_ = std::thread([this] { accept_all(); });
}

Acceptor::~Acceptor() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    queue_.clear();
    for (const auto& connection : active_) ::shutdown(connection->fd(), SHUT_RDWR);
  }
  wake_acceptor();
  wake_.notify_all();
  acceptor_.join();
  // With stopping_ set and the acceptor gone nobody moves threads between the lists any more, but for
  // themselves.
  Lock lock(mutex_);
  wake_.wait(lock, [this] { return threads_.empty(); });
  reap(lock);
}

void Acceptor::wake_acceptor() {
  // It fails only if the counter is full, and then poll() returns anyhow.
  eventfd_write(wake_up_.get(), 1);
}

void Acceptor::listen_on(std::vector<int> listeners) {
  Lock lock(mutex_);
  listeners_ = std::move(listeners);
  listeners_heeded_ = false;
  wake_acceptor();
  wake_.wait(lock, [this] { return listeners_heeded_ || stopping_; });
}

void Acceptor::accept_all() {
  std::vector<pollfd> polled;
  while (true) {
    bool queued = false;
    {
      Lock lock(mutex_);
      if (stopping_) return;
      reap(lock);
      if (!queue_.empty()) drop_slowest();
      queued = !queue_.empty();
      if (!listeners_heeded_) {
        polled.assign(1, {wake_up_.get(), POLLIN, 0});
        for (const int listener : listeners_) polled.push_back({listener, POLLIN, 0});
        listeners_heeded_ = true;
        wake_.notify_all();
      }
    }
    if (::poll(polled.data(), polled.size(), queued ? kQueueCheckMs : -1) <= 0) continue;
    std::uint64_t woken = 0;
    if (polled.front().revents != 0 && ::read(wake_up_.get(), &woken, sizeof woken) > 0) continue;
    for (const auto& listener : polled)
      if (listener.fd != wake_up_.get() && listener.revents != 0) accept_from(listener.fd);
  }
}

void Acceptor::accept_from(int listener) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  Fd fd(::accept4(listener, reinterpret_cast<sockaddr*>(&address), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (fd) {
    admit(std::move(fd), source_of(address));
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    // The connection stays in the backlog; without a pause this would spin.
    std::this_thread::sleep_for(10ms);
  }
}

// False: there is none for it, and it is closed: the client sees it at once and can try again.
bool Acceptor::make_room(const std::string& source) {
  if (source.empty()) return queue_.size() < kMostQueued;
  std::map<std::string, std::size_t> held;
  for (const auto& connection : queue_) ++held[connection->source];
  auto greedy = source;
  if (held[source] < kMostQueuedOfASource) {
    if (queue_.size() < kMostQueued) return true;
    for (const auto& [other, count] : held)
      if (count > held[greedy]) greedy = other;
    if (held[greedy] == 0) return false;
  }
  queue_.erase(std::find_if(queue_.begin(), queue_.end(),
                            [&](const auto& connection) { return connection->source == greedy; }));
  return true;
}

void Acceptor::admit(Fd fd, std::string source) {
  const int yes = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes,
               sizeof yes);  // a Unix socket refuses, and needs none
  const Lock lock(mutex_);
  if (stopping_ || !make_room(source)) return;
  queue_.push_back(std::make_shared<Connection>(std::move(fd), std::move(source)));
  if (queue_.size() > idle_ && threads_.size() < most_threads_) {
    const auto self = threads_.emplace(threads_.end());
    try {
      *self = std::thread([this, self] { work(self); });
    } catch (const std::system_error&) {
      threads_.erase(self);  // no more threads to be had; those there are will come to it
    }
  }
  wake_.notify_one();
}

void Acceptor::work(std::list<std::thread>::iterator self) {
  Lock lock(mutex_);
  while (!stopping_) {
    ++idle_;
    const bool called = wake_.wait_for(lock, kIdle, [this] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (!called || stopping_) break;
    const auto connection = queue_.front();
    queue_.pop_front();
    const auto active = active_.insert(active_.end(), connection);
    lock.unlock();
    serve_(*connection);
    lock.lock();
    active_.erase(active);
  }
  reap(lock);  // so that at most one ended thread keeps its stack
  ended_.splice(ended_.end(), threads_, self);
  wake_.notify_all();
}

// As many as are queued, the longest waiting first.
void Acceptor::drop_slowest() {
  if (idle_ > 0 || threads_.size() < most_threads_) return;
  std::size_t wanted = queue_.size();
  const auto young = std::chrono::steady_clock::now() - kGrace;
  for (const auto& connection : active_) {  // in the order in which they came
    if (wanted == 0) return;
    if (!connection->waits_for_client || connection->since > young) continue;
    ::shutdown(connection->fd(), SHUT_RDWR);
    --wanted;
  }
}

// Joins threads that have left work(); they hold no lock any more by the time join() waits.
void Acceptor::reap(Lock& lock) {
  std::list<std::thread> ended;
  ended.swap(ended_);
  lock.unlock();
  for (auto& thread : ended) thread.join();
  lock.lock();
}

}  // namespace sluice::server
