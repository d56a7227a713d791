// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstring>
#include <unordered_map>

#include "tests/tools/attempts.h"
#include "tests/tools/sockets.h"

namespace sluice::tools {

namespace {

constexpr int kRoom = 64 << 20;
constexpr std::uint8_t kInit = 1, kInitAck = 2;

// Common header (RFC 9260, 3.1; without checksum, nothing on the way looks at it) and an INIT or INIT ACK
// chunk.
struct SctpPacket {
  std::uint16_t source_be, destination_be;
  std::uint32_t verification_be, checksum;
  std::uint8_t chunk, flags;
  std::uint16_t length_be;
  std::uint32_t tag_be, window_be;
  std::uint16_t streams_out_be, streams_in_be;
  std::uint32_t sequence_be;
};
static_assert(sizeof(SctpPacket) == 32);

SctpPacket sctp_packet(std::uint16_t from, std::uint16_t to, std::uint8_t chunk) {
  SctpPacket packet{};
  packet.source_be = htons(from);
  packet.destination_be = htons(to);
  packet.chunk = chunk;
  packet.length_be = htons(20);
  packet.window_be = htonl(65535);
  packet.streams_out_be = packet.streams_in_be = htons(1);
  return packet;
}

// Of a received IPv4 packet.
bool parse(const std::array<std::uint8_t, 2048>& data, ssize_t size, SctpPacket& packet) {
  const auto header = static_cast<std::size_t>(data[0] & 15) * 4;
  if (size < 0 || static_cast<std::size_t>(size) < header + sizeof packet) return false;
  std::memcpy(&packet, data.data() + header, sizeof packet);
  return true;
}

// An attempt is named in the packet, by its number plus one: an SCTP tag must not be 0.
class DatagramClient : public Client {
 public:
  explicit DatagramClient(const Plan& plan)
      : plan_(plan),
        sctp_(plan.protocol == "sctp"),
        target_(socket_address(plan.address, sctp_ ? 0 : plan.port)) {
    if (sctp_) {
      sockets_.push_back(make_socket(SOCK_RAW, IPPROTO_SCTP));
      // A raw socket sees the answers of every server; connected, it sees those of its own.
      must_succeed(
          connect(sockets_.front().get(), reinterpret_cast<const sockaddr*>(&target_), sizeof target_) == 0,
          "connect");
    } else {
      for (unsigned i = 0; i < plan.ports; ++i) {
        sockets_.push_back(make_socket(SOCK_DGRAM));
        bind_port(sockets_.back(), static_cast<std::uint16_t>(plan.first_port + i));
      }
    }
    for (const auto& fd : sockets_) {
      make_room(fd, kRoom);
      polled_.push_back({fd.get(), POLLIN, 0});
    }
  }

  void start() override {
    const auto turn = attempts_.size() % plan_.ports;
    Attempt attempt;
    attempt.port = static_cast<std::uint16_t>(plan_.first_port + turn);
    const auto name = static_cast<std::uint32_t>(attempts_.size() + 1);
    attempt.begin_ns = now_ns();
    if (sctp_) {
      auto packet = sctp_packet(attempt.port, plan_.port, kInit);
      packet.tag_be = htonl(name);
      send(sockets_.front(), &packet, sizeof packet);
    } else {
      const std::uint32_t name_be = htonl(name);
      send(sockets_[turn], &name_be, sizeof name_be);
    }
    attempt.sent_ns = now_ns();
    attempts_.push_back(attempt);
  }

  void wait(std::int64_t timeout_ns) override {
    const timespec timeout{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
    if (ppoll(polled_.data(), polled_.size(), &timeout, nullptr) <= 0) return;
    for (const auto& each : polled_)
      if ((each.revents & POLLIN) != 0) receive(each.fd);
  }

 private:
  void send(const Fd& fd, const void* data, std::size_t size) const {
    // An ICMP error about an earlier datagram is reported once, by the next call.
    for (int tries = 0; tries < 2; ++tries)
      if (sendto(fd.get(), data, size, 0, reinterpret_cast<const sockaddr*>(&target_), sizeof target_) >= 0)
        return;
    must_succeed(false, "send");
  }

  void receive(int fd) {
    std::array<std::uint8_t, 2048> data{};
    ssize_t size = 0;
    while ((size = recv(fd, data.data(), data.size(), 0)) > 0) {
      std::uint32_t name_be = 0;
      SctpPacket packet{};
      if (!sctp_)
        std::memcpy(&name_be, data.data(), sizeof name_be);
      else if (parse(data, size, packet) && packet.chunk == kInitAck && packet.source_be == htons(plan_.port))
        name_be = packet.verification_be;
      const auto name = ntohl(name_be);
      if (name >= 1 && name <= attempts_.size() && attempts_[name - 1].answered_ns == 0)
        attempts_[name - 1].answered_ns = now_ns();
    }
  }

  const Plan plan_;
  const bool sctp_;
  const sockaddr_in target_;
  std::vector<Fd> sockets_;
  std::vector<pollfd> polled_;
};

class DatagramServer : public Server {
 public:
  explicit DatagramServer(const Plan& plan)
      : plan_(plan),
        sctp_(plan.protocol == "sctp"),
        socket_(sctp_ ? make_socket(SOCK_RAW, IPPROTO_SCTP) : make_socket(SOCK_DGRAM)) {
    if (!sctp_) bind_port(socket_, plan.port);
    make_room(socket_, kRoom);
  }

  void serve(int timeout_ms) override {
    if (!readable(socket_.get(), timeout_ms)) return;
    std::array<std::uint8_t, 2048> data{};
    sockaddr_in peer{};
    socklen_t length = sizeof peer;
    ssize_t size = 0;
    while ((size = recvfrom(socket_.get(), data.data(), data.size(), 0, reinterpret_cast<sockaddr*>(&peer),
                            &length)) > 0) {
      if (sctp_)
        answer_init(data, size, peer);
      else
        answer(data.data(), peer);
      length = sizeof peer;
    }
  }

  void enter_arrivals(std::vector<Attempt>& attempts) const override {
    for (const auto& [name, time] : arrivals_)
      if (name >= 1 && name <= attempts.size()) attempts[name - 1].arrived_ns = time;
  }
  [[nodiscard]] std::uint64_t drops() const override { return socket_drops(socket_); }

 private:
  void answer(const std::uint8_t* data, const sockaddr_in& peer) {
    std::uint32_t name_be = 0;
    std::memcpy(&name_be, data, sizeof name_be);
    arrivals_.try_emplace(ntohl(name_be), now_ns());
    static_cast<void>(sendto(socket_.get(), &name_be, sizeof name_be, 0,
                             reinterpret_cast<const sockaddr*>(&peer), sizeof peer));
  }

  void answer_init(const std::array<std::uint8_t, 2048>& data, ssize_t size, sockaddr_in peer) {
    SctpPacket packet{};
    if (!parse(data, size, packet) || packet.chunk != kInit || packet.destination_be != htons(plan_.port))
      return;
    arrivals_.try_emplace(ntohl(packet.tag_be), now_ns());
    auto reply = sctp_packet(plan_.port, ntohs(packet.source_be), kInitAck);
    reply.verification_be = packet.tag_be;
    reply.tag_be = htonl(1);
    peer.sin_port = 0;
    static_cast<void>(sendto(socket_.get(), &reply, sizeof reply, 0, reinterpret_cast<const sockaddr*>(&peer),
                             sizeof peer));
  }

  const Plan plan_;
  const bool sctp_;
  const Fd socket_;
  std::unordered_map<std::uint32_t, std::int64_t> arrivals_;  // of the first packet, by name
};

}  // namespace

std::unique_ptr<Client> make_datagram_client(const Plan& plan) {
  return std::make_unique<DatagramClient>(plan);
}
std::unique_ptr<Server> make_datagram_server(const Plan& plan) {
  return std::make_unique<DatagramServer>(plan);
}

}  // namespace sluice::tools
