// SPDX-License-Identifier: Apache-2.0
// Services and the node itself, packet by packet: its stack as the client, and as the backend of what comes
// from outside. 10.1.0.0 is the address by which it is masqueraded to.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

class NodeService : public Service {
 protected:
  // As the stack sends it, from the gateway's address.
  static Frame asked(std::uint8_t proto, const std::string& flags = "S") {
    return {.from = "gateway",
            .src = "10.1.0.1",
            .dst = kService,
            .proto = proto,
            .sport = 4000,
            .dport = kPort,
            .flags = flags};
  }
  static Frame answered(const std::string& from, const std::string& to, std::uint16_t port,
                        std::uint8_t proto = IPPROTO_TCP) {
    return {.src = from, .dst = to, .proto = proto, .sport = kTarget, .dport = port, .flags = "SA"};
  }
};

void expect_has(const Seen& seen, const std::string& what) {
  EXPECT_NE(seen.out.find(what), std::string::npos) << seen.outcome << ": " << seen.out;
  EXPECT_EQ(seen.out.find("BAD"), std::string::npos) << seen.out;
}

TEST_F(NodeService, ABackendHere) {
  serve(kService, kPort, {{"10.1.0.3"}});
  for (const auto proto : {IPPROTO_TCP, IPPROTO_UDP}) {
    const Seen first = send(SLUICE_HOOK_HOST, asked(static_cast<std::uint8_t>(proto)));
    EXPECT_EQ(first.outcome, "delivered");
    const auto at = first.out.find("192.0.2.1:");
    ASSERT_NE(at, std::string::npos) << first.out;
    const auto port = source_port(first.out.substr(at));
    EXPECT_GE(port, SLUICE_SNAT_PORT_MIN);
    expect_has(first, fmt::format("192.0.2.1:{}>10.1.0.3:8080", port));
    Frame back = answered("10.1.0.3", "192.0.2.1", port, static_cast<std::uint8_t>(proto));
    back.from = "podB";
    const Seen reply = send(SLUICE_HOOK_POD, back);
    EXPECT_EQ(reply.outcome, "to_stack");
    expect_has(reply, "10.96.0.10:80>10.1.0.1:4000");
    const Seen second = send(SLUICE_HOOK_HOST, asked(static_cast<std::uint8_t>(proto), "A"));
    expect_has(second, fmt::format("192.0.2.1:{}>10.1.0.3:8080", port));
  }
}

TEST_F(NodeService, PolicyDoesNotApplyToTheNodeAndItsAnswers) {
  serve(kService, kPort, {{"10.1.0.3"}});
  sluice_policy closed{};
  closed.flags = SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS | SLUICE_POLICY_ISOLATED_EGRESS;
  set_policy(kPodB, closed);
  const Seen first = send(SLUICE_HOOK_HOST, asked(IPPROTO_TCP));
  ASSERT_EQ(first.outcome, "delivered");
  Frame back = answered("10.1.0.3", "192.0.2.1", source_port(first.out.substr(first.out.find("192.0.2.1:"))));
  back.from = "podB";
  EXPECT_EQ(send(SLUICE_HOOK_POD, back).outcome, "to_stack");
}

TEST_F(NodeService, ABackendOnAnotherNode) {
  serve(kService, kPort, {{"10.2.0.9"}});
  const Seen first = send(SLUICE_HOOK_HOST, asked(IPPROTO_TCP));
  EXPECT_EQ(first.outcome, "out_tunnel");
  const auto port = source_port(first.out.substr(first.out.find("192.0.2.1:")));
  const Seen reply = send(SLUICE_HOOK_OVERLAY, answered("10.2.0.9", "192.0.2.1", port));
  EXPECT_EQ(reply.outcome, "to_stack");
  expect_has(reply, "10.96.0.10:80>10.1.0.1:4000");
}

TEST_F(NodeService, ABackendOutside) {
  for (const std::string backend : {"198.51.100.7", "192.0.2.2"}) {
    forget_connections();
    serve(kService, kPort, {{backend}});
    const Seen first = send(SLUICE_HOOK_HOST, asked(IPPROTO_TCP));
    EXPECT_EQ(first.outcome, "out_uplink") << backend;
    const auto port = source_port(first.out.substr(first.out.find("192.0.2.1:")));
    Frame back = answered(backend, "192.0.2.1", port);
    back.to = "uplink";
    const Seen reply = send(SLUICE_HOOK_UPLINK, back);
    EXPECT_EQ(reply.outcome, "to_stack");
    expect_has(reply, "10.96.0.10:80>10.1.0.1:4000");
  }
}

TEST_F(NodeService, ABackendThatIsTheNodeItself) {
  serve(kService, kPort, {{"192.0.2.1"}});
  const Seen first = send(SLUICE_HOOK_HOST, asked(IPPROTO_TCP));
  EXPECT_EQ(first.outcome, "to_stack");
  const auto port = source_port(first.out.substr(first.out.find("10.1.0.0:")));
  Frame back = answered("192.0.2.1", "10.1.0.0", port);
  back.from = "gateway";
  const Seen reply = send(SLUICE_HOOK_HOST, back);
  EXPECT_EQ(reply.outcome, "to_stack");
  expect_has(reply, "10.96.0.10:80>10.1.0.1:4000");
}

TEST_F(NodeService, WithoutABackendTheStackIsTold) {
  serve(kService, kPort, {});
  const Seen seen = send(SLUICE_HOOK_HOST, asked(IPPROTO_UDP));
  EXPECT_EQ(seen.outcome, "to_stack");
  EXPECT_NE(seen.out.find("10.96.0.10>10.1.0.1"), std::string::npos) << seen.out;
}

TEST_F(NodeService, WhatIsForNoServiceLeavesNoEntry) {
  serve(kService, kPort, {{"10.1.0.3"}});
  EXPECT_EQ(send(SLUICE_HOOK_HOST, but(asked(IPPROTO_TCP), [](Frame& f) { f.dst = "10.1.0.3"; })).outcome,
            "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_HOST, but(asked(IPPROTO_TCP), [](Frame& f) { f.dst = "10.2.0.9"; })).outcome,
            "out_tunnel");
  EXPECT_EQ(connections(), 0U);
}

// The same port of the node to a backend by its Service, and to the backend itself, of which conntrack knows
// nothing.
TEST_F(NodeService, TheSamePortDirectlyAndByTheService) {
  serve(kService, kPort, {{"10.1.0.3"}});
  const Frame direct = but(asked(IPPROTO_TCP), [](Frame& f) {
    f.dst = "10.1.0.3";
    f.dport = kTarget;
  });
  const Seen first = send(SLUICE_HOOK_HOST, asked(IPPROTO_TCP));
  const auto port = source_port(first.out.substr(first.out.find("192.0.2.1:")));
  expect_has(send(SLUICE_HOOK_HOST, direct), "10.1.0.1:4000>10.1.0.3:8080");
  Frame back = answered("10.1.0.3", "10.1.0.1", 4000);
  back.from = "podB";
  const Seen directly = send(SLUICE_HOOK_POD, back);
  EXPECT_EQ(directly.outcome, "to_stack");
  expect_has(directly, "10.1.0.3:8080>10.1.0.1:4000");
  back.dst = "192.0.2.1";
  back.dport = port;
  expect_has(send(SLUICE_HOOK_POD, back), "10.96.0.10:80>10.1.0.1:4000");
}

TEST_F(NodeService, FromOutsideToTheNodeItself) {
  for (const std::uint32_t flags : {0U, std::uint32_t{SLUICE_SERVICE_MASQUERADE}}) {
    forget_connections();
    serve("192.0.2.1", kNodePort, {{"192.0.2.1"}}, flags, SLUICE_SCOPE_OUTSIDE);
    const Seen first = send(SLUICE_HOOK_UPLINK, from_world(kNodePort));
    EXPECT_EQ(first.outcome, "to_stack");
    const auto port = source_port(first.out.substr(first.out.find("10.1.0.0:")));
    expect_has(first, fmt::format("10.1.0.0:{}>192.0.2.1:8080", port));
    const Seen second = send(SLUICE_HOOK_UPLINK, from_world(kNodePort, "A"));
    expect_has(second, fmt::format("10.1.0.0:{}>192.0.2.1:8080", port));
    Frame back = answered("192.0.2.1", "10.1.0.0", port);
    back.from = "gateway";
    const Seen reply = send(SLUICE_HOOK_HOST, back);
    EXPECT_EQ(reply.outcome, "out_uplink");
    expect_has(reply, "192.0.2.1:30080>198.51.100.7:443");
  }
}

// ... to another node: by the uplink as it asked, not by the tunnel.
TEST_F(NodeService, AnAnswerToAnotherNodeLeavesByTheUplink) {
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, SLUICE_SERVICE_MASQUERADE, SLUICE_SCOPE_OUTSIDE);
  const Seen first =
      send(SLUICE_HOOK_UPLINK, but(from_world(kNodePort), [](Frame& f) { f.src = "192.0.2.2"; }));
  EXPECT_EQ(first.outcome, "delivered");
  Frame back = answered("10.1.0.3", "192.0.2.1", source_port(first.out.substr(first.out.find("192.0.2.1:"))));
  back.from = "podB";
  const Seen reply = send(SLUICE_HOOK_POD, back);
  EXPECT_EQ(reply.outcome, "out_uplink");
  expect_has(reply, "192.0.2.1:30080>192.0.2.2:443");
}

// The node's own connections are not tracked, and may have a port that a Service has at the node's address.
TEST_F(NodeService, AnAnswerOrAnEndFromOutsideOpensNoConnectionToAService) {
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  for (const char* flags : {"SA", "A", "FA", "R", "RA"}) {
    const Bytes frame = build(from_world(kNodePort, flags));
    const Seen seen = send(SLUICE_HOOK_UPLINK, frame);
    EXPECT_EQ(seen.outcome, "to_stack") << flags;
    EXPECT_EQ(seen.bytes, frame) << "untouched";
  }
  EXPECT_EQ(connections(), 0U);
  // At an address that the node does not have, nobody waits for an answer. In the middle of a connection that
  // another node had, the table gives the same backend.
  serve("203.0.113.9", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  const auto to_balancer = [](const char* flags) {
    return but(from_world(kNodePort, flags), [](Frame& f) { f.dst = "203.0.113.9"; });
  };
  for (const char* flags : {"SA", "FA", "R"})
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, to_balancer(flags)).outcome, "dropped CT_INVALID") << flags;
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, to_balancer("A")).outcome, "delivered");
}

TEST_F(NodeService, AnAnswerFromInsideOpensNoConnectionToAService) {
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}});
  Frame frame = answered("10.1.0.2", "192.0.2.1", kNodePort);
  for (const char* flags : {"SA", "A", "FA", "R"}) {
    frame.flags = flags;
    const Seen seen = send(SLUICE_HOOK_POD, frame);
    EXPECT_EQ(seen.outcome, "to_stack") << flags;
    expect_has(seen, "10.1.0.2:8080>192.0.2.1:30080");
  }
  frame.src = "10.2.0.9";
  frame.flags = "SA";
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, frame).outcome, "to_stack");
  EXPECT_EQ(connections(), 0U);
}

TEST_F(NodeService, WhatASocketOfTheNodeWaitsForIsTheNodes) {
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}});
  for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
    const auto proto = static_cast<std::uint8_t>(type == SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP);
    const Frame frame = but(from_world(kNodePort), [&](Frame& f) { f.src = "192.0.2.99", f.proto = proto; });
    const int socket = ::socket(AF_INET, type | SOCK_NONBLOCK, 0);
    sockaddr_in here{}, there{};
    here.sin_family = there.sin_family = AF_INET;
    here.sin_port = htons(kNodePort);
    there.sin_port = htons(443);
    here.sin_addr.s_addr = ipv4_be("192.0.2.1");
    there.sin_addr.s_addr = ipv4_be("192.0.2.99");
    ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&here), sizeof here), 0) << strerror(errno);
    if (type == SOCK_STREAM) {
      ASSERT_EQ(::connect(socket, reinterpret_cast<sockaddr*>(&there), sizeof there), -1);
      ASSERT_EQ(errno, EINPROGRESS);
    } else {
      EXPECT_EQ(send(SLUICE_HOOK_UPLINK, frame).outcome, "delivered") << "a socket that waits for anybody";
      forget_connections();
      ASSERT_EQ(::connect(socket, reinterpret_cast<sockaddr*>(&there), sizeof there), 0) << strerror(errno);
    }
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, frame).outcome, "to_stack") << int{proto};
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, but(frame, [](Frame& f) { f.sport = 444; })).outcome, "delivered");
    ::close(socket);
    forget_connections();
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, frame).outcome, "delivered") << "nobody waits for it";
    forget_connections();
  }
}

TEST_F(NodeService, NobodyReachesTheNodesMasqueradeAddress) {
  Frame frame = but(asked(IPPROTO_TCP), [](Frame& f) {
    f.from = "podA";
    f.src = "10.1.0.2";
    f.dst = "10.1.0.0";
    f.dport = SLUICE_SNAT_PORT_MIN;
  });
  EXPECT_EQ(send(SLUICE_HOOK_POD, frame).outcome, "dropped ENDPOINT_GONE");
}

}  // namespace
}  // namespace sluice::bpftest
