// SPDX-License-Identifier: Apache-2.0
#include "common/host_port.h"

#include <gmock/gmock.h>
#include <netinet/in.h>

#include <nlohmann/json.hpp>

#include "tests/unit/service_words.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::vector<HostPort> parsed(const char* text) {
  const auto ports = parse_host_ports(json::parse(text));
  EXPECT_TRUE(ports) << ports.error().message;
  return ports.value_or(std::vector<HostPort>{});
}

TEST(HostPort, Reads) {
  EXPECT_EQ(parsed("null"), std::vector<HostPort>{});
  const auto ports = parsed(R"([{"hostPort": 80, "containerPort": 8080},
                                {"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "192.0.2.1"},
                                {"hostPort": 9, "containerPort": 9, "protocol": "sctp", "hostIP": ""}])");
  ASSERT_EQ(ports.size(), 3U);
  EXPECT_EQ(ports[0], (HostPort{IPPROTO_TCP, 80, 8080, Address::from_v4(0)}));
  EXPECT_EQ(ports[1], (HostPort{IPPROTO_UDP, 53, 5353, *Address::parse("192.0.2.1")}));
  EXPECT_EQ(ports[2].to_string(), "*:9/SCTP");
  EXPECT_EQ(ports[1].to_string(), "192.0.2.1:53/UDP");
}

// containerd's go-cni has no names for JSON.
TEST(HostPort, ReadsTheFieldNamesOfContainerd) {
  EXPECT_EQ(parsed(R"([{"HostPort": 53, "ContainerPort": 5353, "Protocol": "udp", "HostIP": "192.0.2.1"}])"),
            (std::vector{HostPort{IPPROTO_UDP, 53, 5353, *Address::parse("192.0.2.1")}}));
  // The very name comes first.
  EXPECT_EQ(parsed(R"([{"HostPort": 1, "hostPort": 2, "containerPort": 3}])")[0].host_port, 2);
}

TEST(HostPort, WhatIsWrittenIsRead) {
  const auto ports =
      parsed(R"([{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.1"}])");
  const auto again = parse_host_ports(host_ports_json(ports));
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, ports);
}

TEST(HostPort, SaysWhatIsWrong) {
  for (const auto& [text, told] : std::vector<std::pair<const char*, const char*>>{
           {"{}", "must be a list"},
           {"[{\"hostPort\": 80}]", "entry 0: it has no 'containerPort'"},
           {R"([{"hostPort": -1, "containerPort": 1}])", "'hostPort' must be a port, 1 to 65535, and not -1"},
           {R"([{"hostPort": 1, "containerPort": 1.5}])", "'containerPort' must be a port"},
           {R"([{"hostPort": 1, "containerPort": 1, "protocol": 6}])", "'protocol' must be a string"},
           {R"([{"hostPort": 1, "containerPort": 1, "hostIP": "a"}])", "'hostIP' must be an IP address"}}) {
    const auto ports = parse_host_ports(json::parse(text));
    ASSERT_FALSE(ports) << text;
    EXPECT_THAT(ports.error().message, HasSubstr(told));
  }
}

TEST(HostPort, CollidesOnOneAddressOnly) {
  const auto of = [](const char* ip, std::uint16_t port = 80) {
    return HostPort{IPPROTO_TCP, port, 8080, *Address::parse(ip)};
  };
  EXPECT_TRUE(of("192.0.2.1").collides_with(of("192.0.2.1")));
  EXPECT_TRUE(of("0.0.0.0").collides_with(of("192.0.2.1")));
  EXPECT_TRUE(of("192.0.2.1").collides_with(of("::")));
  EXPECT_FALSE(of("192.0.2.1").collides_with(of("192.0.2.2")));
  EXPECT_FALSE(of("192.0.2.1").collides_with(of("192.0.2.1", 81)));
  HostPort udp = of("192.0.2.1");
  udp.protocol = IPPROTO_UDP;
  EXPECT_FALSE(of("192.0.2.1").collides_with(udp));
}

TEST(HostPort, IsServedOnTheNodesAddressesBehindServices) {
  using namespace service::words;
  service::Compiler compiler;
  compiler.set_node({.name = "one", .zone = "", .addresses = ips({"192.0.2.1", "192.0.2.3"})});
  service::Input input;
  input.host_ports = service::HostPorts{"shop/web-0", ip("10.0.1.5"), parsed(R"([
      {"hostPort": 80, "containerPort": 8080}, {"hostPort": 81, "containerPort": 8081, "hostIP": "192.0.2.3"}])")};
  compiler.update("hostPort of shop/web-0", input);
  ASSERT_EQ(compiler.table().size(), 3U);
  const auto& target = *compiler.table().at(tcp("192.0.2.1", 80));
  EXPECT_EQ(text(*target.internal), "10.0.1.5:8080");
  EXPECT_EQ(text(*target.external), "10.0.1.5:8080");
  EXPECT_TRUE(target.from_outside);
  EXPECT_FALSE(target.masquerade);
  EXPECT_EQ(text(*compiler.table().at(tcp("192.0.2.3", 81))->external), "10.0.1.5:8081");
  // A Service's node port has it before.
  auto service = web();
  service.ports = {{"http", model::Protocol::kTcp, 8000, 80}};
  compiler.update("shop/web", service::words::input(service, {}));
  EXPECT_EQ(compiler.table().at(tcp("192.0.2.1", 80))->service, "shop/web:http");
  const auto changes = compiler.take_changes();
  ASSERT_EQ(changes.warnings.size(), 1U);
  EXPECT_EQ(
      changes.warnings[0],
      "hostPort of shop/web-0: 192.0.2.1:80/TCP (and 1 more) is not served for it, Service shop/web has it");
  compiler.update("shop/web", {});
  EXPECT_EQ(compiler.table().at(tcp("192.0.2.1", 80))->service, "hostPort of shop/web-0");
  compiler.update("hostPort of shop/web-0", {});
  EXPECT_TRUE(compiler.table().empty());
}

}  // namespace
}  // namespace sluice
