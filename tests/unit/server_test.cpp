// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <latch>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/fd.h"
#include "tests/unit/corpus.h"
#include "tests/unit/crowd.h"

namespace sluice::server {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class FakeApi : public Api {
 public:
  Answer cni_add(const json& body) override {
    if (body.contains("throw")) throw std::runtime_error("no such luck");
    if (body.contains("throwInt")) throw 7;
    return {200, {{"address", "10.1.0.2/24"}, {"container", body.value("containerID", "")}}};
  }
  Answer cni_del(const json&) override { return {}; }
  Answer cni_check(const json&) override { return cni_error(kCniCheckFailed, "the link is gone", "eth0"); }
  Answer cni_gc(const json& body) override { return {200, {{"released", body.at("attachments")}}}; }
  Answer cni_status() override { return cni_error(kCniPluginNotAvailable, "not yet"); }
  Answer status() override { return {200, {{"version", "test"}}}; }
  Answer endpoints() override { return {200, {{"endpoints", json::array()}}}; }
  Answer endpoint_policy(const std::string& which) override { return {200, {{"which", which}}}; }
  Answer firewall() override { return {200, {{"live", nullptr}}}; }
  Answer services() override { return {200, nlohmann::json::object()}; }
  Answer modules() override { return {200, {{"modules", "\xff not UTF-8"}}}; }
  Answer conntrack_list(const ConnectionQuery& query) override { return {200, as_json(query)}; }
  Answer conntrack_flush(const ConnectionQuery& query) override {
    ++flushes;
    return {200, as_json(query)};
  }
  static json as_json(const ConnectionQuery& query) {
    return {{"of", query.of}, {"protocol", query.protocol}, {"most", query.most}, {"all", query.all}};
  }
  std::atomic<int> flushes{0};
  bool alive() override { return is_alive; }
  bool ready(std::string& why_not) override {
    why_not = "no podCIDR";
    return is_ready;
  }
  std::string metrics() override { return "sluice_up 1\n"; }
  void monitor(bool drops, bool verdicts, const std::function<bool(const std::string&)>& line) override {
    ++monitors;
    std::string text = json{{"drops", drops}, {"verdicts", verdicts}, {"pad", std::string(pad, 'x')}}.dump();
    while (line(text)) {
      if (pad == 0) text.clear();  // one event, then only the question whether to go on
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    --monitors;
  }
  std::atomic<bool> is_alive{true}, is_ready{false};
  std::atomic<int> monitors{0};
  std::atomic<std::size_t> pad{0};
};

Fd connect_unix(const std::string& path) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd.reset();
  return fd;
}

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    std::string name = (fs::temp_directory_path() / "sluice-server-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    options_.socket = folder_ + "/run/sluice.sock";
    options_.health_address = "127.0.0.1:0";
  }
  ~ServerTest() override {
    server_.reset();
    fs::remove_all(folder_);
  }
  void start() {
    auto server = Server::start(options_, api_);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  [[nodiscard]] httplib::Client control() const {
    httplib::Client client(options_.socket);
    client.set_address_family(AF_UNIX);
    return client;
  }
  [[nodiscard]] httplib::Client health() const {
    return httplib::Client("127.0.0.1", server_->health_port());
  }
  httplib::Result post(const std::string& path, const std::string& body) const {
    return control().Post(path, body, "application/json");
  }
  // Sends bytes as they are and returns all that comes back.
  [[nodiscard]] std::string raw(const std::string& bytes) const {
    const Fd fd = connect_unix(options_.socket);
    (void)::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::shutdown(fd.get(), SHUT_WR);
    std::string answer;
    char part[4096];
    for (ssize_t got; (got = ::recv(fd.get(), part, sizeof part, 0)) > 0;)
      answer.append(part, static_cast<std::size_t>(got));
    return answer;
  }

  std::string folder_;
  ServerOptions options_;
  FakeApi api_;
  std::unique_ptr<Server> server_;
};

void expect_error(const httplib::Result& result, int http, int code, const std::string& part) {
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, http);
  const auto body = json::parse(result->body, nullptr, false);
  ASSERT_TRUE(body.is_object()) << result->body;
  EXPECT_EQ(body.at("code"), code);
  EXPECT_NE(body.at("msg").get<std::string>().find(part), std::string::npos) << result->body;
  EXPECT_TRUE(body.contains("details"));
}

TEST_F(ServerTest, AnswersEveryRoute) {
  start();
  EXPECT_EQ(json::parse(post("/v1/cni/add", R"({"containerID":"c1"})")->body).at("container"), "c1");
  EXPECT_EQ(post("/v1/cni/del", "{}")->body, "{}");
  expect_error(post("/v1/cni/check", "{}"), 409, kCniCheckFailed, "the link is gone");
  EXPECT_EQ(post("/v1/cni/gc", R"({"attachments":[]})")->status, 200);
  expect_error(control().Get("/v1/cni/status"), 503, kCniPluginNotAvailable, "not yet");
  EXPECT_EQ(json::parse(control().Get("/v1/status")->body).at("version"), "test");
  EXPECT_EQ(control().Get("/v1/endpoints")->status, 200);
  EXPECT_EQ(control().Get("/v1/firewall")->status, 200);
  EXPECT_EQ(control().Get("/v1/modules")->status, 200);  // a string that is not UTF-8 fails no answer
  EXPECT_EQ(control().Get("/metrics")->body, "sluice_up 1\n");
}

TEST_F(ServerTest, TakesEndpointsByIdNameAndAddress) {
  start();
  for (const std::string which : {"17", "shop/front-1", "10.1.0.2", "fd00::1"})
    EXPECT_EQ(json::parse(control().Get("/v1/endpoints/" + which + "/policy")->body).at("which"), which);
  EXPECT_EQ(json::parse(control().Get("/v1/endpoints/shop%2Ffront-1/policy")->body).at("which"),
            "shop/front-1");
  expect_error(control().Get("/v1/endpoints//policy"), 404, kCniDecodeFailure, "nothing is served");
}

TEST_F(ServerTest, SaysWhatIsWrongWithARequest) {
  start();
  expect_error(post("/v1/cni/add", "{\"containerID\":"), 400, kCniDecodeFailure, "not JSON");
  expect_error(post("/v1/cni/add", "[]"), 400, kCniDecodeFailure, "not a JSON object");
  expect_error(post("/v1/cni/add", ""), 400, kCniDecodeFailure, "not JSON");
  expect_error(post("/v1/cni/frobnicate", "{}"), 404, kCniDecodeFailure, "nothing is served");
  expect_error(control().Get("/v1/nothing"), 404, kCniDecodeFailure, "/v1/nothing");
  expect_error(control().Get("/v1/cni/add"), 405, kCniDecodeFailure, "takes POST");
  expect_error(control().Delete("/v1/status"), 404, kCniDecodeFailure, "nothing is served");
  expect_error(control().Get("/" + std::string(4000, 'a')), 414, kCniDecodeFailure, "longer");
}

TEST_F(ServerTest, AsksConntrackForWhatTheQuerySays) {
  start();
  const auto parsed = [](const httplib::Result& result) { return json::parse(result->body); };
  EXPECT_EQ(parsed(control().Get("/v1/conntrack")),
            json({{"of", ""}, {"protocol", ""}, {"most", 1000}, {"all", false}}));
  EXPECT_EQ(parsed(control().Get("/v1/conntrack?of=shop/front&protocol=udp&limit=7")),
            json({{"of", "shop/front"}, {"protocol", "udp"}, {"most", 7}, {"all", false}}));
  EXPECT_EQ(parsed(control().Delete("/v1/conntrack?all=1")).at("all"), true);
  EXPECT_EQ(api_.flushes, 1);
  for (const auto* limit : {"-1", "x", "1x", "", "100001", "99999999999999999999999"})
    expect_error(control().Get(std::string("/v1/conntrack?limit=") + limit), 400, kCniDecodeFailure, "limit");
  expect_error(control().Delete("/v1/conntrack?off=10.1.0.2&all=1"), 400, kCniDecodeFailure, "'off'");
  expect_error(control().Delete("/v1/status"), 404, kCniDecodeFailure, "nothing is served");
  EXPECT_EQ(api_.flushes, 1) << "what is misspelt flushes nothing";
}

TEST_F(ServerTest, AnExceptionBecomesAnAnswer) {
  start();
  expect_error(post("/v1/cni/add", R"({"throw":1})"), 500, kCniInternal, "no such luck");
  expect_error(post("/v1/cni/add", R"({"throwInt":1})"), 500, kCniInternal, "sluiced failed");
  expect_error(post("/v1/cni/gc", "{}"), 500, kCniInternal, "attachments");
  EXPECT_EQ(control().Get("/v1/status")->status, 200);
}

TEST_F(ServerTest, RefusesLargeBodiesHoweverTheyCome) {
  start();
  const std::string large = "{\"x\":\"" + std::string(2 << 20, 'x') + "\"}";
  expect_error(post("/v1/cni/add", large), 413, kCniDecodeFailure, "larger");
  auto compressing = control();
  compressing.set_compress(true);
  expect_error(compressing.Post("/v1/cni/add", large, "application/json"), 413, kCniDecodeFailure, "larger");
  const auto chunked = control().Post(
      "/v1/cni/add",
      [&](size_t, httplib::DataSink& sink) {
        sink.write(large.data(), large.size());
        sink.done();
        return true;
      },
      "application/json");
  expect_error(chunked, 413, kCniDecodeFailure, "larger");
  const std::string small = "{\"containerID\":\"" + std::string(1000 << 10, 'x') + "\"}";
  EXPECT_EQ(post("/v1/cni/add", small)->status, 200);
}

TEST_F(ServerTest, TcpServesProbesAndMetricsOnly) {
  start();
  EXPECT_EQ(health().Get("/healthz")->status, 200);
  api_.is_alive = false;
  EXPECT_EQ(health().Get("/healthz")->status, 500);
  const auto unready = health().Get("/readyz");
  EXPECT_EQ(unready->status, 503);
  EXPECT_EQ(unready->body, "no podCIDR\n");
  api_.is_ready = true;
  EXPECT_EQ(health().Get("/readyz")->status, 200);
  const auto metrics = health().Get("/metrics");
  EXPECT_EQ(metrics->body, "sluice_up 1\n");
  EXPECT_EQ(metrics->get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  for (const auto* path : {"/v1/status", "/v1/endpoints", "/v1/monitor", "/v1/cni/status"})
    expect_error(health().Get(path), 404, kCniDecodeFailure, "nothing is served");
  expect_error(health().Post("/v1/cni/add", "{}", "application/json"), 404, kCniDecodeFailure,
               "nothing is served");
  expect_error(health().Post("/metrics", "{}", "application/json"), 405, kCniDecodeFailure, "takes GET");
}

TEST_F(ServerTest, MetricsForOtherHostsHaveAListenerOfTheirOwn) {
  options_.metrics_address = "127.0.0.1:0";
  start();
  httplib::Client metrics("127.0.0.1", server_->metrics_port());
  EXPECT_EQ(metrics.Get("/metrics")->body, "sluice_up 1\n");
  for (const auto* path : {"/healthz", "/readyz", "/v1/status", "/v1/monitor"})
    expect_error(metrics.Get(path), 404, kCniDecodeFailure, "nothing is served");
  const Crowd crowd("127.0.0.1", server_->metrics_port());
  while (crowd.opened() < 300) std::this_thread::yield();
  const auto answer = health().Get("/healthz");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
}

TEST_F(ServerTest, SocketIsForItsOwnerOnly) {
  start();
  struct stat status {};
  ASSERT_EQ(::stat(options_.socket.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  ASSERT_EQ(::stat(fs::path(options_.socket).parent_path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700u);
}

TEST_F(ServerTest, ReplacesADeadSocketButNoLivingOne) {
  fs::create_directories(fs::path(options_.socket).parent_path());
  {
    const Fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    options_.socket.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(dead.get(), 1), 0);
    const auto refused = Server::start(options_, api_);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("another process answers"), std::string::npos);
  }
  start();
  const auto second = Server::start(options_, api_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another sluiced holds"), std::string::npos);
  EXPECT_EQ(control().Get("/v1/status")->status, 200);
}

TEST_F(ServerTest, TouchesNothingThatIsNoSocket) {
  fs::create_directories(options_.socket);
  const auto refused = Server::start(options_, api_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("not a socket"), std::string::npos);
}

TEST_F(ServerTest, RefusesUnusableAddresses) {
  for (const auto* address : {"localhost:9790", "9790", "127.0.0.1:", "127.0.0.1:http", "300.1.1.1:1"}) {
    options_.health_address = address;
    const auto refused = Server::start(options_, api_);
    ASSERT_FALSE(refused) << address;
    EXPECT_NE(refused.error().message.find("address to listen on"), std::string::npos);
  }
  options_.health_address = "";
  options_.socket = folder_ + "/" + std::string(200, 'a');
  EXPECT_FALSE(Server::start(options_, api_));
}

TEST_F(ServerTest, SurvivesGarbage) {
  start();
  std::vector<std::string> garbage{
      "",
      "\r\n\r\n",
      std::string(100000, '\0'),
      std::string(3 << 20, 'A'),
      "GET\r\n\r\n",
      "GET /v1/status HTTP/9.9\r\n\r\n",
      "GET /v1/status HTTP/1.1\r\n" + std::string(200000, 'x'),
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      "GET /v1/status HTTP/1.1\r\nRange: bytes=" + std::string(8000, '0') + "\r\n\r\n",
      "GET /%zz%ff%00/v1 HTTP/1.1\r\n\r\n",
      "POST /v1/cni/add HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
      "POST /v1/cni/add HTTP/1.1\r\nContent-Length: 100\r\n\r\n{}",
      "POST /v1/cni/add HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
      "POST /v1/cni/add HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\nx",
      "POST /v1/cni/add HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      "POST /v1/cni/add HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
      "POST /v1/cni/add HTTP/1.1\r\n\r\n{}",
      "POST /v1/cni/add HTTP/1.1\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}"};
  for (const auto& file : corpus::files("http", "bad-")) garbage.push_back(corpus::read("http", file));
  for (const auto& bytes : garbage) {
    const auto answer = raw(bytes);
    EXPECT_EQ(answer.find("10.1.0.2"), std::string::npos) << "taken for a good ADD: " << bytes.substr(0, 80);
    const auto good = control().Get("/v1/status");
    ASSERT_TRUE(good) << "after " << bytes.substr(0, 80);
    EXPECT_EQ(good->status, 200);
  }
  std::string ranges = "bytes=0-0";
  while (ranges.size() < 7900) ranges += ",0-0";
  const auto ranged = raw("GET /metrics HTTP/1.1\r\nRange: " + ranges + "\r\n\r\n");
  EXPECT_NE(ranged.find("sluice_up 1"), std::string::npos) << ranged.substr(0, 200);
}

// More silent clients than there are threads, on both doors; those who ask get answers.
TEST_F(ServerTest, SilentAndSlowClientsBlockNobody) {
  start();
  std::vector<Fd> silent;
  for (int i = 0; i < 60; ++i) {
    silent.push_back(connect_unix(options_.socket));
    ASSERT_TRUE(silent.back());
    const std::string part = i % 2 == 0 ? "" : "POST /v1/cni/add HTTP/1.1\r\nContent-Length: 10\r\n\r\n{";
    (void)::send(silent.back().get(), part.data(), part.size(), MSG_NOSIGNAL);
  }
  for (int i = 0; i < 5; ++i) {
    const auto answer = control().Get("/v1/status");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200);
  }
  std::vector<Fd> probes;
  for (int i = 0; i < 30; ++i) {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(server_->health_port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    probes.push_back(std::move(fd));
  }
  for (int i = 0; i < 5; ++i) {
    const auto answer = health().Get("/healthz");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200);
  }
}

// One host that opens connections without end takes its own share, and not that of the kubelet's probes.
TEST_F(ServerTest, AHostWithSlowConnectionsKeepsNoOtherOneFromAnAnswer) {
  start();
  const Crowd crowd("127.0.0.2", server_->health_port());
  while (crowd.opened() < 300) std::this_thread::yield();
  for (int i = 0; i < 10; ++i) {
    auto client = health();
    client.set_read_timeout(3);
    const auto answer = client.Get("/healthz");
    ASSERT_TRUE(answer) << i;
    EXPECT_EQ(answer->status, 200);
  }
}

TEST_F(ServerTest, ABurstIsServedToTheLast) {
  start();
  std::atomic<int> good{0};
  std::latch begin(1);
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i)
    clients.emplace_back([&] {
      begin.wait();
      for (int n = 0; n < 10; ++n)
        if (const auto result = post("/v1/cni/add", "{}"); result && result->status == 200) ++good;
    });
  begin.count_down();
  for (auto& client : clients) client.join();
  EXPECT_EQ(good, 640);
}

TEST_F(ServerTest, StreamsEventsUntilTheClientGoes) {
  start();
  const std::vector<std::tuple<std::string, bool, bool>> cases{{"", true, true},
                                                               {"?drops=1", true, false},
                                                               {"?verdicts=1", false, true},
                                                               {"?drops=1&verdicts=1", true, true}};
  for (const auto& [query, drops, verdicts] : cases) {
    std::string got;
    auto client = control();
    client.Get("/v1/monitor" + query, [&](const char* data, size_t size) {
      got.append(data, size);
      return !got.ends_with("\n");
    });
    const auto event = json::parse(got);
    EXPECT_EQ(event.at("drops"), drops) << query;
    EXPECT_EQ(event.at("verdicts"), verdicts) << query;
  }
  while (api_.monitors > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST_F(ServerTest, LimitsMonitorsAndServesOthersMeanwhile) {
  start();
  std::vector<Fd> clients;
  const std::string request = "GET /v1/monitor HTTP/1.1\r\n\r\n";
  for (int i = 0; i < 8; ++i) {
    clients.push_back(connect_unix(options_.socket));
    (void)::send(clients.back().get(), request.data(), request.size(), MSG_NOSIGNAL);
  }
  while (api_.monitors < 8) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  expect_error(control().Get("/v1/monitor"), 503, kCniTryAgainLater, "8 monitors");
  EXPECT_EQ(control().Get("/v1/status")->status, 200);
  clients.clear();
  while (api_.monitors > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_NE(raw("GET /v1/monitor HTTP/1.1\r\n\r\n").find("200 OK"), std::string::npos);
}

// A monitor whose client does not read is ended; it must not hold the destructor either.
TEST_F(ServerTest, EndsWhileMonitorsAndSilentClientsAreThere) {
  api_.pad = 64 << 10;
  start();
  const Fd monitor = connect_unix(options_.socket);
  const Fd silent = connect_unix(options_.socket);
  const std::string request = "GET /v1/monitor HTTP/1.1\r\n\r\n";
  ASSERT_GT(::send(monitor.get(), request.data(), request.size(), MSG_NOSIGNAL), 0);
  while (api_.monitors == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  server_.reset();
  EXPECT_EQ(api_.monitors, 0);
  EXPECT_FALSE(fs::exists(options_.socket));
  start();  // the same path again, at once
  EXPECT_EQ(control().Get("/v1/status")->status, 200);
}

}  // namespace
}  // namespace sluice::server
