// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/health_checks.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>

#include "daemon/server/listen.h"
#include "tests/unit/crowd.h"

namespace sluice::server {
namespace {

using nlohmann::json;

std::uint16_t free_port() {
  const auto listener = listen_tcp("127.0.0.1:0");
  return static_cast<std::uint16_t>(local_port(listener->get()).value());
}

httplib::Result ask(std::uint16_t port, const std::string& path = "/") {
  httplib::Client client("127.0.0.1", port);
  client.set_read_timeout(5);
  return client.Get(path.c_str());
}

TEST(HealthChecks, AnswerByTheNumberOfEndpointsWhateverThePath) {
  HealthChecks checks;
  const auto some = free_port();
  std::uint16_t none = free_port();
  while (none == some) none = free_port();
  ASSERT_TRUE(checks.set({{some, {"shop", "web", 3}}, {none, {"shop", "db", 0}}}).empty());
  for (const auto* path : {"/", "/healthz", "/any/thing?x=1"}) {
    const auto answer = ask(some, path);
    ASSERT_TRUE(answer) << path;
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->get_header_value("X-Load-Balancing-Endpoint-Weight"), "3");
    EXPECT_EQ(json::parse(answer->body), json::parse(R"({"service":{"namespace":"shop","name":"web"},
      "localEndpoints":3,"serviceProxyHealthy":true})"));
  }
  EXPECT_EQ(ask(none)->status, 503);

  checks.set_healthy(false);
  EXPECT_EQ(ask(some)->status, 503);
  EXPECT_EQ(json::parse(ask(some)->body).at("serviceProxyHealthy"), false);
  checks.set_healthy(true);

  ASSERT_TRUE(checks.set({{some, {"shop", "web", 0}}}).empty());
  EXPECT_EQ(ask(some)->status, 503);
  EXPECT_FALSE(ask(none)) << "its port is closed";
  ASSERT_TRUE(checks.set({}).empty());
  EXPECT_FALSE(ask(some));
}

TEST(HealthChecks, APortThatIsTakenIsToldAndTriedAgain) {
  auto other = listen_tcp("0.0.0.0:0");
  ASSERT_TRUE(other);
  const auto taken = static_cast<std::uint16_t>(local_port(other->get()).value());
  HealthChecks checks;
  const service::HealthChecks wanted{{taken, {"shop", "web", 1}}};
  const auto problems = checks.set(wanted);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_NE(problems[0].find("shop/web"), std::string::npos) << problems[0];
  EXPECT_NE(problems[0].find("Address already in use"), std::string::npos) << problems[0];
  other->reset();
  EXPECT_TRUE(checks.set(wanted).empty());
  EXPECT_EQ(ask(taken)->status, 200);
}

TEST(HealthChecks, AClientThatSaysNothingKeepsNobodyFromAnAnswer) {
  HealthChecks checks;
  const auto port = free_port();
  ASSERT_TRUE(checks.set({{port, {"shop", "web", 1}}}).empty());
  std::vector<Fd> silent;
  for (int i = 0; i < 16; ++i) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    silent.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(silent.back().get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  const auto answer = ask(port);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
}

TEST(HealthChecks, AHostWithSlowConnectionsKeepsNoOtherOneFromAnAnswer) {
  HealthChecks checks;
  const auto port = free_port();
  ASSERT_TRUE(checks.set({{port, {"shop", "web", 1}}}).empty());
  const Crowd crowd("127.0.0.2", port);
  while (crowd.opened() < 300) std::this_thread::yield();
  for (int i = 0; i < 10; ++i) {
    const auto answer = ask(port);
    ASSERT_TRUE(answer) << i;
    EXPECT_EQ(answer->status, 200);
  }
}

}  // namespace
}  // namespace sluice::server
