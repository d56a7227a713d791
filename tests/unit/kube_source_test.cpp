// SPDX-License-Identifier: Apache-2.0
// List and watch against a fake API server over plain HTTP; TLS and credentials: kube_source_tls_test.cpp.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <future>

#include "common/fd.h"
#include "daemon/source/kube/lines.h"
#include "tests/unit/fake_api_server.h"
#include "tests/unit/kube_source_fixture.h"

namespace sluice::source {
namespace {

using namespace std::chrono_literals;
using model::Kind;

const std::string kGone = R"({"kind":"Status","code":410,"reason":"Expired","message":"too old"})";

class KubeSourceTest : public KubeSourceWith<FakeApiServer> {
 protected:
  bool wait_for_error(const std::string& part) {
    return eventually([&] { return source_->status().last_error.find(part) != std::string::npos; });
  }
};

TEST_F(KubeSourceTest, ListsPagesThenWatches) {
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3") + "," + pod("two", "4"), "next/page=")));
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("three", "5"))));
  const auto stream = api_.stream_on_watch(kPods);
  start();
  ASSERT_TRUE(wait_for_pods({"one", "three", "two"}));
  EXPECT_EQ(sink_.state().replaced.at(Kind::kPod), 1);
  const auto lists = api_.requests(kPods, false);
  ASSERT_EQ(lists.size(), 2U);
  EXPECT_EQ(lists[0].param("limit"), "500");
  EXPECT_EQ(lists[0].param("continue"), "");
  EXPECT_EQ(lists[1].param("limit"), "500");
  EXPECT_EQ(lists[1].param("continue"), "next/page=");
  EXPECT_EQ(lists[0].host, "127.0.0.1:" + std::to_string(api_.port()));

  ASSERT_TRUE(api_.wait_for(kPods, true, 1));
  const auto watch = api_.requests(kPods, true).at(0);
  EXPECT_EQ(watch.param("resourceVersion"), "7");
  EXPECT_EQ(watch.param("allowWatchBookmarks"), "true");
  EXPECT_GE(std::stoi(watch.param("timeoutSeconds")), 300);
  EXPECT_LE(std::stoi(watch.param("timeoutSeconds")), 600);

  stream->line(event("ADDED", pod("four", "8")));
  EXPECT_TRUE(wait_for_pods({"four", "one", "three", "two"}));
  stream->line(event("MODIFIED", pod("one", "9", R"({"nodeName":"n"})")));
  EXPECT_TRUE(sink_.wait([](const auto& state) {
    return std::get<model::Pod>(state.objects.at({Kind::kPod, "a", "one"})).node_name == "n";
  }));
  stream->line(event("DELETED", pod("two", "10")));
  EXPECT_TRUE(wait_for_pods({"four", "one", "three"}));
  EXPECT_TRUE(eventually([this] { return source_->status().connected; }));
  EXPECT_EQ(source_->status().last_error, "");
}

TEST_F(KubeSourceTest, ResumesAWatchThatEndedFromTheLastVersionWithoutListing) {
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3"))));
  const auto first = api_.stream_on_watch(kPods);
  const auto second = api_.stream_on_watch(kPods);
  start();
  first->line(event("ADDED", pod("two", "8")));
  first->line(event("BOOKMARK", R"({"metadata":{"resourceVersion":"20"}})"));
  first->end();
  second->line(event("ADDED", pod("three", "21")));
  EXPECT_TRUE(wait_for_pods({"one", "three", "two"}));
  EXPECT_EQ(api_.requests(kPods, true).at(1).param("resourceVersion"), "20");
  EXPECT_EQ(api_.requests(kPods, false).size(), 1U);
}

TEST_F(KubeSourceTest, AnEventCountsAsSoonAsItsLineIsComplete) {
  const auto stream = api_.stream_on_watch(kPods);
  start();
  const auto line = event("ADDED", pod("one", "3")) + "\n" + event("ADDED", pod("two", "4"));
  for (const char c : line) stream->send(std::string(1, c));
  ASSERT_TRUE(wait_for_pods({"one"}));
  EXPECT_FALSE(sink_.state().has(Kind::kPod, "two"));
  stream->send("\n");
  EXPECT_TRUE(wait_for_pods({"one", "two"}));
}

TEST_F(KubeSourceTest, AConnectionCutWithinALineLosesNothing) {
  api_.on_list(kPods, FakeApiServer::body(list("7", "")));
  const auto first = api_.stream_on_watch(kPods);
  const auto second = api_.stream_on_watch(kPods);
  start();
  first->line(event("ADDED", pod("one", "8")));
  first->send(event("ADDED", pod("two", "9")).substr(0, 30));
  ASSERT_TRUE(wait_for_pods({"one"}));
  first->cut();
  ASSERT_TRUE(api_.wait_for(kPods, true, 2));
  EXPECT_EQ(api_.requests(kPods, true).at(1).param("resourceVersion"), "8");
  EXPECT_EQ(sink_.state().names(Kind::kPod), std::vector<std::string>{"one"});
  second->line(event("ADDED", pod("two", "9")));
  EXPECT_TRUE(wait_for_pods({"one", "two"}));
  EXPECT_EQ(api_.requests(kPods, false).size(), 1U);
}

TEST_F(KubeSourceTest, ListsAnewWhenTheVersionIsGone) {
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3") + "," + pod("two", "4"))));
  const auto first = api_.stream_on_watch(kPods);
  api_.on_watch(kPods, FakeApiServer::body(kGone, 410));
  api_.on_list(kPods, FakeApiServer::body(list("30", pod("two", "4") + "," + pod("three", "29"))));
  api_.on_list(kPods, FakeApiServer::body(list("40", pod("four", "39"))));
  start();
  ASSERT_TRUE(wait_for_pods({"one", "two"}));
  first->line(event("ERROR", kGone));
  EXPECT_TRUE(wait_for_pods({"four"}));  // after the list between, since the next watch is refused as well
  ASSERT_TRUE(api_.wait_for(kPods, true, 3));
  EXPECT_EQ(api_.requests(kPods, true).at(1).param("resourceVersion"), "30");
  EXPECT_EQ(api_.requests(kPods, true).at(2).param("resourceVersion"), "40");
}

TEST_F(KubeSourceTest, BeginsAListAnewWhenItsContinuationIsGone) {
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("stale", "3"), "next")));
  api_.on_list(kPods, FakeApiServer::body(kGone, 410));
  api_.on_list(kPods, FakeApiServer::body(list("9", pod("one", "8"))));
  start();
  EXPECT_TRUE(wait_for_pods({"one"}));
  const auto lists = api_.requests(kPods, false);
  ASSERT_EQ(lists.size(), 3U);
  EXPECT_EQ(lists[2].param("continue"), "");
  EXPECT_EQ(lists[2].param("limit"), "");  // in one piece, or it might be gone each time
}

TEST_F(KubeSourceTest, WaitsAsLongAsAServerThatIsBusyAsks) {
  api_.on_list(kPods, FakeApiServer::busy(429, "1"));
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3"))));
  start();
  EXPECT_TRUE(wait_for_pods({"one"}));
  const auto lists = api_.requests(kPods, false);
  EXPECT_GE(lists.at(1).when - lists.at(0).when, 1s);  // the protocol's own lower bound
}

TEST_F(KubeSourceTest, ErrorsTakeNothingAway) {
  api_.on_list(kPods, FakeApiServer::body("internal error", 500));
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3"))));
  const auto first = api_.stream_on_watch(kPods);
  for (int i = 0; i < 3; ++i) api_.on_watch(kPods, FakeApiServer::body("internal error", 500));
  api_.on_list(kPods, FakeApiServer::body("<html>a proxy's page</html>"));
  const auto late = api_.stream_on_list(kPods);
  start();
  ASSERT_TRUE(wait_for_pods({"one"}));
  first->cut();
  // Three refused watches lead to a list, and that fails as well.
  ASSERT_TRUE(api_.wait_for(kPods, false, 4));
  EXPECT_EQ(sink_.state().names(Kind::kPod), std::vector<std::string>{"one"});
  EXPECT_FALSE(source_->status().connected);
  EXPECT_NE(source_->status().last_error, "");
  late->send(list("9", pod("two", "8")));
  late->end();
  EXPECT_TRUE(wait_for_pods({"two"}));
  EXPECT_TRUE(eventually([this] { return source_->status().connected; }));
}

TEST_F(KubeSourceTest, TakesNothingButAListForAList) {
  for (const char* answer :
       {"[]", "{}", "", R"({"kind":"Status"})", R"({"metadata":{"resourceVersion":"1"}})"})
    api_.on_list(kPods, FakeApiServer::body(answer));
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3"))));
  start();
  EXPECT_TRUE(wait_for_pods({"one"}));
  EXPECT_EQ(api_.requests(kPods, false).size(), 6U);
  EXPECT_EQ(sink_.state().replaced.at(Kind::kPod), 1);
}

TEST_F(KubeSourceTest, ListsAnewAfterALineItDoesNotUnderstand) {
  const std::vector<std::string> garbage = {"{\"type\":",
                                            "[]",
                                            "{}",
                                            "\x01\xff",
                                            event("NEW", "{}"),
                                            event("ADDED", R"({"metadata":{"name":"x","namespace":"a"}})"),
                                            event("ADDED", "null"),
                                            R"({"type":5,"object":{}})"};
  for (const auto& line : garbage) {
    api_.on_list(kPods, FakeApiServer::body(list("7", pod("kept", "6"))));
    const auto stream = api_.stream_on_watch(kPods);
    stream->line(event("ADDED", pod("before", "7")));
    stream->line(line);
    stream->line(event("ADDED", pod("after", "8")));
  }
  api_.on_list(kPods, FakeApiServer::body(list("9", pod("last", "6"))));
  start();
  EXPECT_TRUE(wait_for_pods({"last"}));
  EXPECT_EQ(api_.requests(kPods, false).size(), garbage.size() + 1);
  EXPECT_EQ(sink_.state().upserts, static_cast<int>(garbage.size()));  // "before" each time, never "after"
}

TEST_F(KubeSourceTest, BoundsTheDepthOfAnEvent) {
  const auto stream = api_.stream_on_watch(kPods);
  start();
  stream->line(R"({"type":"ADDED","object":{"spec":)" + std::string(1'000'000, '[') +
               std::string(1'000'000, ']') + "}}");
  EXPECT_TRUE(api_.wait_for(kPods, false, 2));
  EXPECT_TRUE(sink_.state().names(Kind::kPod).empty());
}

TEST_F(KubeSourceTest, AnObjectThatCannotBeUsedStaysAsItWas) {
  const std::string bad = R"({"hostNetwork":5})";
  api_.on_list(kPods, FakeApiServer::body(
                          list("7", pod("one", "3") + "," + pod("two", "4") + "," + pod("gone", "5"))));
  const auto stream = api_.stream_on_watch(kPods);
  api_.on_list(kPods, FakeApiServer::body(list("30", pod("one", "8", bad) + "," + pod("new", "9") + "," +
                                                         pod("never", "9", bad))));
  start();
  ASSERT_TRUE(wait_for_pods({"gone", "one", "two"}));
  stream->line(event("MODIFIED", pod("two", "8", bad)));
  EXPECT_TRUE(
      sink_.wait([](const auto& state) { return state.rejected("Pod a/two: spec.hostNetwork: 5 is not"); }));
  EXPECT_TRUE(sink_.state().has(Kind::kPod, "two"));
  stream->line(event("ERROR", kGone));
  EXPECT_TRUE(wait_for_pods({"new", "one"}));
  EXPECT_TRUE(sink_.state().rejected("Pod a/never"));
}

TEST_F(KubeSourceTest, SaysWhatAdministratorsCanDo) {
  for (int i = 0; i < 100; ++i)
    api_.on_list(kPolicies,
                 FakeApiServer::body(R"({"kind":"Status","message":"cannot list resource"})", 403));
  start();
  EXPECT_TRUE(wait_for_error("HTTP 403: cannot list resource (bind the ClusterRole"));
  EXPECT_TRUE(wait_for_error("NetworkPolicy: list: http://127.0.0.1:"));
}

TEST_F(KubeSourceTest, TakesATokenThatWasReplaced) {
  std::string file = testing::TempDir() + "/sluice-token-XXXXXX";
  const int fd = mkstemp(file.data());
  ASSERT_GE(fd, 0);
  close(fd);
  std::ofstream(file) << "old\n";
  api_.require_token("old");
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3"))));
  const auto stream = api_.stream_on_watch(kPods);
  KubeConfig config = config_of(api_);
  config.token.file = file;
  start(config);
  ASSERT_TRUE(wait_for_pods({"one"}));
  api_.require_token("new");
  stream->cut();
  EXPECT_TRUE(wait_for_error("HTTP 401: Unauthorized (the token"));
  EXPECT_TRUE(sink_.state().has(Kind::kPod, "one"));
  std::ofstream(file) << "new\n";
  EXPECT_TRUE(eventually([this] { return source_->status().connected; }));
  api_.on_list("/api/v1/namespaces/a/pods/one", FakeApiServer::body(pod("one", "3")));
  EXPECT_TRUE(source_->get_pod("a", "one")) << "get_pod() reads it, too";
  unlink(file.c_str());
}

TEST_F(KubeSourceTest, GetsOnePod) {
  start();
  const auto path = "/api/v1/namespaces/a/pods/one";
  api_.on_list(path, FakeApiServer::body(pod("one", "3", R"({"nodeName":"n"})")));
  const auto found = source_->get_pod("a", "one");
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_TRUE(*found);
  EXPECT_EQ((*found)->node_name, "n");
  api_.on_list(path, FakeApiServer::body("{}", 404));
  const auto none = source_->get_pod("a", "one");
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_FALSE(*none);
  api_.on_list(path, FakeApiServer::body("{}", 403));
  EXPECT_NE(source_->get_pod("a", "one").error().message.find("pod a/one: http://127.0.0.1"),
            std::string::npos);
  // A name cannot reach another path.
  const auto odd = "/api/v1/namespaces/a/pods/../../secrets?x";
  api_.on_list(odd, FakeApiServer::body("{}", 404));
  EXPECT_TRUE(source_->get_pod("a", "../../secrets?x"));
  EXPECT_EQ(api_.requests(odd, false).size(), 1U);
}

// Each byte comes well within every single timeout; only the deadline for the whole ends this.
TEST_F(KubeSourceTest, GettingAPodEndsThoughTheServerDoesNot) {
  start();
  const auto stream = api_.stream_on_list("/api/v1/namespaces/a/pods/one");
  std::promise<void> over;
  std::thread drip([&, ended = over.get_future()] {
    while (ended.wait_for(50ms) == std::future_status::timeout) stream->send(" ");
  });
  const auto found = source_->get_pod("a", "one");
  over.set_value();
  drip.join();
  EXPECT_FALSE(found);
}

TEST_F(KubeSourceTest, StopsWhileItWatchesAndStartsAgain) {
  api_.on_list(kPods, FakeApiServer::body(list("7", pod("one", "3"))));
  api_.on_list(kPods, FakeApiServer::body(list("8", pod("two", "3"))));
  start();
  ASSERT_TRUE(eventually([this] { return source_->status().connected; }));
  // The streams are silent and the read timeout is far away: without an interruption this takes 90 seconds.
  auto stopped = std::async(std::launch::async, [this] { source_->stop(); });
  ASSERT_EQ(stopped.wait_for(30s), std::future_status::ready);
  EXPECT_FALSE(source_->status().connected);
  ASSERT_TRUE(source_->start(sink_));
  EXPECT_TRUE(wait_for_pods({"two"}));
}

TEST_F(KubeSourceTest, StopsWhileItConnectsAndWhileItWaits) {
  // A listener whose queue is full does not answer a SYN.
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 0), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  std::vector<Fd> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    std::ignore = ::connect(fillers.back().get(), reinterpret_cast<sockaddr*>(&address), size);
  }
  KubeConfig config;
  ASSERT_TRUE(config.set_server("http://127.0.0.1:" + std::to_string(ntohs(address.sin_port))));
  start(config);
  ASSERT_TRUE(wait_for_error("cannot connect"));  // the first attempt is over; now they wait or connect again
  source_->stop();
  // In whatever step of connecting it finds them.
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(source_->start(sink_));
    std::this_thread::sleep_for(std::chrono::microseconds(i * 500));
    source_->stop();
  }
  EXPECT_TRUE(sink_.state().replaced.empty());
}

TEST(Lines, CutsAndBounds) {
  const auto run = [](std::size_t most, const std::vector<std::string>& parts) {
    Lines lines(most);
    std::vector<std::string> got;
    for (const auto& part : parts) {
      const auto end = lines.feed(part, [&](std::string_view line) {
        got.emplace_back(line);
        return line != "stop";
      });
      if (end == Lines::End::kTooLong) got.emplace_back("<too long>");
      if (end == Lines::End::kRefused) got.emplace_back("<refused>");
      if (end != Lines::End::kNone) break;
    }
    return got;
  };
  using Got = std::vector<std::string>;
  EXPECT_EQ(run(10, {"a\nb", "c\n\nd\r\n", "e"}), (Got{"a", "bc", "d\r"}));
  EXPECT_EQ(run(4, {"abcd\n", "abc", "d\n"}), (Got{"abcd", "abcd"}));
  EXPECT_EQ(run(4, {"abcde\n"}), (Got{"<too long>"}));
  EXPECT_EQ(run(4, {"abc", "de"}), (Got{"<too long>"}));
  EXPECT_EQ(run(9, {"a\nstop\nb\n"}), (Got{"a", "stop", "<refused>"}));
}

}  // namespace
}  // namespace sluice::source
