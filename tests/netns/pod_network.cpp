// SPDX-License-Identifier: Apache-2.0
#include "tests/netns/pod_network.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <system_error>
#include <thread>

namespace sluice::test {

namespace {

constexpr int kPatienceMs = 1000;

void must_succeed(bool good, const char* what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

void in_place(const Fd* netns, const std::function<void()>& action) {
  if (netns == nullptr) return action();
  in_netns(*netns, action);
}

sockaddr_in socket_address(const Address& address, std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = address.v4_be();
  name.sin_port = htons(port);
  return name;
}

Fd make_socket(const Fd* netns, int type, int protocol = 0) {
  Fd made;
  in_place(netns, [&] {
    made.reset(socket(AF_INET, type | SOCK_CLOEXEC, protocol));
    must_succeed(static_cast<bool>(made), "socket");
  });
  return made;
}

bool ready(const Fd& fd, short events) {
  pollfd waiting{fd.get(), events, 0};
  return poll(&waiting, 1, kPatienceMs) == 1 && (waiting.revents & events) != 0;
}

void bind_to(const Fd& fd, const Address& address, std::uint16_t port) {
  const auto name = socket_address(address, port);
  const int on = 1;
  must_succeed(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0, "SO_REUSEADDR");
  must_succeed(bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0, "bind");
}

std::uint16_t checksum(const void* data, std::size_t size) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i + 1 < size; i += 2) {
    std::uint16_t word = 0;
    std::memcpy(&word, static_cast<const char*>(data) + i, 2);
    sum += word;
  }
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

}  // namespace

void in_netns(const Fd& netns, const std::function<void()>& action) {
  std::exception_ptr thrown;
  std::thread([&] {
    try {
      must_succeed(setns(netns.get(), CLONE_NEWNET) == 0, "setns");
      action();
    } catch (...) {
      thrown = std::current_exception();
    }
  }).join();
  if (thrown) std::rethrow_exception(thrown);
}

Fd new_netns() {
  Fd made;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) == 0) made.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  must_succeed(static_cast<bool>(made), "new network namespace");
  return made;
}

Sandbox::Sandbox() {
  must_succeed(unshare(CLONE_NEWNET | CLONE_NEWNS) == 0, "unshare");
  must_succeed(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
  bpffs_ = std::filesystem::temp_directory_path() / "sluice-test-XXXXXX";
  must_succeed(mkdtemp(bpffs_.data()) != nullptr, "mkdtemp");
  must_succeed(mount("bpf", bpffs_.c_str(), "bpf", 0, nullptr) == 0, "mount bpffs");
  auto netlink = must(NetlinkSocket::make());
  LinkChange up;
  up.up = true;
  must(netlink.change_link(must(netlink.link("lo")).index, up));
}

Sandbox::~Sandbox() {
  umount2(bpffs_.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove(bpffs_, ignored);
}

Pod::Pod(std::uint32_t id, const std::string& address, const std::string& gateway, bool shares_ingress)
    : netns_(new_netns()) {
  endpoint_.id = id;
  endpoint_.shares_ingress = shares_ingress;
  endpoint_.ifname = fmt::format("pod{}", id);
  endpoint_.ipv4 = must(Address::parse(address));
  endpoint_.mac = Mac::of_pod(endpoint_.ipv4);
  auto host = must(NetlinkSocket::make());
  must(host.add_veth(endpoint_.ifname, "eth0", netns_.get()));
  endpoint_.ifindex = static_cast<std::uint32_t>(must(host.link(endpoint_.ifname)).index);
  in_netns(netns_, [&] {
    auto netlink = must(NetlinkSocket::make());
    const int index = must(netlink.link("eth0")).index;
    LinkChange change;
    change.mac = endpoint_.mac;
    change.up = true;
    change.ipv6_addresses = false;
    must(netlink.change_link(index, change));
    must(netlink.add_address({index, endpoint_.ipv4, 24}));
    Route route;
    route.destination = must(Prefix::parse("0.0.0.0/0"));
    route.gateway = must(Address::parse(gateway));
    route.link_index = index;
    must(netlink.replace_route(route));
  });
}

Pod::~Pod() {
  if (auto host = NetlinkSocket::make()) static_cast<void>(host->delete_link(endpoint_.ifname));
}

bool ping(const Fd* from, const Address& to) {
  const Fd fd = make_socket(from, SOCK_RAW, IPPROTO_ICMP);
  icmphdr request{};
  request.type = ICMP_ECHO;
  request.un.echo.id = htons(0x5353);
  request.un.echo.sequence = htons(1);
  request.checksum = checksum(&request, sizeof request);
  const auto name = socket_address(to, 0);
  if (sendto(fd.get(), &request, sizeof request, 0, reinterpret_cast<const sockaddr*>(&name), sizeof name) <
      0)
    return false;
  while (ready(fd, POLLIN)) {
    std::array<unsigned char, 256> packet{};
    const auto size = recv(fd.get(), packet.data(), packet.size(), 0);
    icmphdr answer{};
    const auto header = static_cast<std::size_t>((packet[0] & 0x0f) * 4);
    if (size < 0 || static_cast<std::size_t>(size) < header + sizeof answer) return false;
    std::memcpy(&answer, packet.data() + header, sizeof answer);
    if (answer.type == ICMP_ECHOREPLY && answer.un.echo.id == request.un.echo.id) return true;
  }
  return false;
}

Fd listen_tcp(const Fd* at, const Address& address, std::uint16_t port) {
  Fd fd = make_socket(at, SOCK_STREAM);
  bind_to(fd, address, port);
  must_succeed(listen(fd.get(), 8) == 0, "listen");
  return fd;
}

Fd connect_tcp(const Fd* from, const Address& to, std::uint16_t port) {
  Fd fd = make_socket(from, SOCK_STREAM | SOCK_NONBLOCK);
  const auto name = socket_address(to, port);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0) return fd;
  int error = 0;
  socklen_t length = sizeof error;
  if (errno != EINPROGRESS || !ready(fd, POLLOUT) ||
      getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0)
    return Fd();
  return fd;
}

Fd accept_tcp(const Fd& listener) {
  if (!ready(listener, POLLIN)) return Fd();
  return Fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

bool send_and_receive(const Fd& from, const Fd& to) {
  const std::array<char, 6> message{"hello"};
  std::array<char, 6> received{};
  if (send(from.get(), message.data(), message.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(message.size()))
    return false;
  return ready(to, POLLIN) &&
         recv(to.get(), received.data(), received.size(), 0) == static_cast<ssize_t>(message.size()) &&
         received == message;
}

bool udp_answer(const Fd* from, const Fd* at, const Address& to, std::uint16_t port) {
  const Fd client = make_socket(from, SOCK_DGRAM);
  const Fd server = make_socket(at, SOCK_DGRAM);
  bind_to(server, to, port);
  const auto name = socket_address(to, port);
  if (connect(client.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) return false;
  char byte = 'q';
  sockaddr_in peer{};
  socklen_t length = sizeof peer;
  if (send(client.get(), &byte, 1, 0) != 1 || !ready(server, POLLIN) ||
      recvfrom(server.get(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&peer), &length) != 1)
    return false;
  if (sendto(server.get(), &byte, 1, 0, reinterpret_cast<const sockaddr*>(&peer), length) != 1) return false;
  return ready(client, POLLIN) && recv(client.get(), &byte, 1, 0) == 1;
}

}  // namespace sluice::test
