// SPDX-License-Identifier: Apache-2.0
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "tests/tools/attempts.h"
#include "tests/tools/sockets.h"

namespace sluice::tools {

namespace {

constexpr int kBacklog = 4096;
constexpr int kRoom = 64 << 20;
constexpr std::int64_t kServerPatience =
    100'000'000;  // for the client's reset, which a policy may have stopped

class Epoll {
 public:
  Epoll() : fd_(epoll_create1(EPOLL_CLOEXEC)) { must_succeed(static_cast<bool>(fd_), "epoll"); }
  void add(int fd, std::uint32_t events) const {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    must_succeed(epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
  }
  void wait(std::int64_t timeout_ns, const auto& ready) const {
    std::array<epoll_event, 256> events{};
    const timespec timeout{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
    const int count = epoll_pwait2(fd_.get(), events.data(), events.size(), &timeout, nullptr);
    for (int i = 0; i < count; ++i) ready(events[static_cast<std::size_t>(i)].data.fd);
  }

 private:
  Fd fd_;
};

// Closing sends a reset instead of a FIN.
void reset_when_closed(const Fd& fd) { set_option(fd, SOL_SOCKET, SO_LINGER, linger{1, 0}); }

class TcpClient : public Client {
 public:
  explicit TcpClient(const Plan& plan) : plan_(plan), target_(socket_address(plan.address, plan.port)) {}

  void start() override {
    Attempt attempt;
    Fd fd = make_socket(SOCK_STREAM);
    reset_when_closed(fd);
    if (plan_.ports != 0) {
      attempt.port = free_port();
      if (attempt.port == 0) {
        ++without_port_;
        return;
      }
      set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
      bind_port(fd, attempt.port);
    }
    attempt.begin_ns = now_ns();
    const int code = connect(fd.get(), reinterpret_cast<const sockaddr*>(&target_), sizeof target_);
    attempt.sent_ns = now_ns();
    if (code != 0 && errno == EADDRNOTAVAIL) {
      ++without_port_;
      return;
    }
    must_succeed(code == 0 || errno == EINPROGRESS, "connect");
    sockaddr_in own{};
    socklen_t length = sizeof own;
    must_succeed(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &length) == 0, "getsockname");
    attempt.port = ntohs(own.sin_port);
    used_.insert(attempt.port);
    deadlines_.emplace_back(attempt.sent_ns + plan_.patience_ns, attempts_.size());
    epoll_.add(fd.get(), EPOLLOUT);
    index_[fd.get()] = attempts_.size();
    pending_.emplace(attempts_.size(), std::move(fd));
    attempts_.push_back(attempt);
  }

  void wait(std::int64_t timeout_ns) override {
    epoll_.wait(timeout_ns, [this](int fd) { finish(index_.at(fd)); });
    while (!deadlines_.empty() && deadlines_.front().first <= now_ns()) {
      finish(deadlines_.front().second);
      deadlines_.pop_front();
    }
  }

 private:
  std::uint16_t free_port() {
    for (unsigned tries = 0; tries < plan_.ports; ++tries) {
      const auto port = static_cast<std::uint16_t>(plan_.first_port + turn_++ % plan_.ports);
      if (!used_.contains(port)) return port;
    }
    return 0;
  }

  // Whatever state it is in now is the outcome.
  void finish(std::size_t number) {
    const auto found = pending_.find(number);
    if (found == pending_.end()) return;
    auto& attempt = attempts_[number];
    tcp_info info{};
    socklen_t length = sizeof info;
    must_succeed(getsockopt(found->second.get(), IPPROTO_TCP, TCP_INFO, &info, &length) == 0, "TCP_INFO");
    int error = 0;
    length = sizeof error;
    must_succeed(getsockopt(found->second.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0, "SO_ERROR");
    // Reset: it was established, and the server did not wait any longer.
    if (info.tcpi_state == TCP_ESTABLISHED || error == ECONNRESET) attempt.answered_ns = now_ns();
    attempt.retransmissions = static_cast<std::uint8_t>(std::min(info.tcpi_total_retrans, 255U));
    used_.erase(attempt.port);
    index_.erase(found->second.get());
    pending_.erase(found);
  }

  const Plan plan_;
  const sockaddr_in target_;
  unsigned turn_ = 0;
  Epoll epoll_;
  std::unordered_map<std::size_t, Fd> pending_;  // by number of the attempt
  std::unordered_map<int, std::size_t> index_;   // number of the attempt, by its socket
  std::unordered_set<std::uint16_t> used_;       // source ports
  std::deque<std::pair<std::int64_t, std::size_t>> deadlines_;
};

class TcpServer : public Server {
 public:
  explicit TcpServer(const Plan& plan)
      : plan_(plan), listener_(make_socket(SOCK_STREAM)), raw_(make_socket(SOCK_RAW, IPPROTO_TCP)) {
    set_option(listener_, SOL_SOCKET, SO_REUSEADDR, 1);
    bind_port(listener_, plan.port);
    must_succeed(listen(listener_.get(), kBacklog) == 0, "listen");
    make_room(raw_, kRoom);
    set_option(raw_, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    epoll_.add(listener_.get(), EPOLLIN);
    epoll_.add(raw_.get(), EPOLLIN);
  }

  void serve(int timeout_ms) override {
    epoll_.wait(std::int64_t{timeout_ms} * 1'000'000, [this](int fd) {
      if (fd == listener_.get())
        accept_all();
      else if (fd == raw_.get())
        read_raw();
      else
        connections_.erase(fd);
    });
    while (!deadlines_.empty() && deadlines_.front().first <= now_ns()) {
      const auto [serial, fd] = deadlines_.front().second;
      const auto found = connections_.find(fd);
      if (found != connections_.end() && found->second.first == serial) connections_.erase(found);
      deadlines_.pop_front();
    }
  }

  // A SYN belongs to the last attempt begun from its port before the kernel had it.
  void enter_arrivals(std::vector<Attempt>& attempts) const override {
    std::map<std::uint16_t, std::vector<Attempt*>> by_port;
    for (auto& attempt : attempts) by_port[attempt.port].push_back(&attempt);
    for (const auto& arrival : arrivals_) {
      auto& of_port = by_port[arrival.port];
      const auto after = std::upper_bound(of_port.begin(), of_port.end(), arrival.stamp_ns,
                                          [](auto at, const auto* each) { return at < each->begin_ns; });
      if (after != of_port.begin() && (*std::prev(after))->arrived_ns == 0)
        (*std::prev(after))->arrived_ns = arrival.read_ns;
    }
  }

  [[nodiscard]] std::uint64_t drops() const override { return socket_drops(raw_); }

 private:
  void accept_all() {
    while (Fd fd{accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)}) {
      reset_when_closed(fd);
      epoll_.add(fd.get(), EPOLLIN | EPOLLRDHUP);
      const int number = fd.get();
      deadlines_.emplace_back(now_ns() + kServerPatience, std::pair(++serial_, number));
      connections_.insert_or_assign(number, std::pair(serial_, std::move(fd)));
    }
  }

  void read_raw() {
    std::array<std::uint8_t, 2048> packet{};
    alignas(cmsghdr) std::array<char, 256> control{};
    timespec wall{};
    clock_gettime(CLOCK_REALTIME, &wall);
    const auto offset = std::int64_t{wall.tv_sec} * 1'000'000'000 + wall.tv_nsec - now_ns();
    while (true) {
      iovec vector{packet.data(), packet.size()};
      msghdr message{};
      message.msg_iov = &vector;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      const auto size = recvmsg(raw_.get(), &message, 0);
      if (size <= 0) return;
      const auto header = static_cast<std::size_t>(packet[0] & 15) * 4;
      tcphdr tcp{};
      if (static_cast<std::size_t>(size) < header + sizeof tcp) continue;
      std::memcpy(&tcp, packet.data() + header, sizeof tcp);
      if (ntohs(tcp.dest) != plan_.port || !tcp.syn || tcp.ack) continue;
      const auto read = now_ns();
      arrivals_.push_back({stamp_of(message, read + offset) - offset, read, ntohs(tcp.source)});
    }
  }

  // Of CLOCK_REALTIME, as the kernel has it.
  static std::int64_t stamp_of(msghdr& message, std::int64_t without) {
    for (auto* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
      if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_TIMESTAMPNS) continue;
      timespec stamp{};
      std::memcpy(&stamp, CMSG_DATA(each), sizeof stamp);
      return std::int64_t{stamp.tv_sec} * 1'000'000'000 + stamp.tv_nsec;
    }
    return without;
  }

  struct Arrival {
    std::int64_t stamp_ns, read_ns;  // when the kernel had it, when it was read here
    std::uint16_t port;
  };

  const Plan plan_;
  const Fd listener_, raw_;
  Epoll epoll_;
  std::uint64_t serial_ = 0;
  std::unordered_map<int, std::pair<std::uint64_t, Fd>> connections_;
  std::deque<std::pair<std::int64_t, std::pair<std::uint64_t, int>>> deadlines_;
  std::vector<Arrival> arrivals_;
};

}  // namespace

std::unique_ptr<Client> make_tcp_client(const Plan& plan) { return std::make_unique<TcpClient>(plan); }
std::unique_ptr<Server> make_tcp_server(const Plan& plan) { return std::make_unique<TcpServer>(plan); }

}  // namespace sluice::tools
