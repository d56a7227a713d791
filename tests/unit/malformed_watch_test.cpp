// SPDX-License-Identifier: Apache-2.0
// An API server that says what it should not, says it in pieces, or stops saying anything: what was known
// stays in force, the error tells what happened, and the state is whole again afterwards. Bytes on a socket,
// because a server library would not send such things.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <thread>

#include "common/fd.h"
#include "tests/unit/kube_source_fixture.h"

namespace sluice::source {
namespace {

using model::Kind;

// Answers each request with the next scripted bytes of its path, else with an empty list or a quiet watch.
class RawServer {
 public:
  RawServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 64), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~RawServer() {
    stopping_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (auto& client : clients_) client.join();
  }
  [[nodiscard]] int port() const { return port_; }
  // The whole answer, head and all; then the connection ends, or stays open and silent.
  enum class Then { kClose, kSilent };
  void next(bool watch, const std::string& path, const std::string& bytes, Then then = Then::kClose) {
    const std::lock_guard lock(mutex_);
    answers_[{watch, path}].push_back({bytes, then});
  }
  // What every list of that path gets when nothing else is scripted, until it is taken back.
  void repeat(const std::string& path, const std::optional<std::string>& bytes) {
    const std::lock_guard lock(mutex_);
    repeated_.erase(path);
    if (bytes) repeated_.emplace(path, *bytes);
  }
  std::size_t asked(bool watch, const std::string& path) {
    const std::lock_guard lock(mutex_);
    return asked_[{watch, path}];
  }

 private:
  struct Answer {
    std::string bytes;
    Then then;
  };
  void accept_all() {
    while (!stopping_) {
      const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      const std::lock_guard lock(mutex_);
      open_.insert(fd);
      clients_.emplace_back([this, fd] { serve(fd); });
    }
  }
  void serve(int fd) {
    std::string request;
    char part[4096];
    for (ssize_t got; request.find("\r\n\r\n") == std::string::npos;) {
      if ((got = ::recv(fd, part, sizeof part, 0)) <= 0) break;
      request.append(part, static_cast<std::size_t>(got));
    }
    if (request.empty()) request = "GET /nothing ";  // the source stopped before it asked
    const auto target = request.substr(4, request.find(' ', 4) - 4);
    const auto answer = take(target.find("watch=1") != std::string::npos, target.substr(0, target.find('?')));
    (void)!::send(fd, answer.bytes.data(), answer.bytes.size(), MSG_NOSIGNAL);
    if (answer.then == Then::kSilent)
      while (::recv(fd, part, sizeof part, 0) > 0) continue;
    const std::lock_guard lock(mutex_);
    open_.erase(fd);
    ::close(fd);
  }
  Answer take(bool watch, const std::string& path) {
    const std::lock_guard lock(mutex_);
    ++asked_[{watch, path}];
    auto& waiting = answers_[{watch, path}];
    if (const auto again = repeated_.find(path); waiting.empty() && !watch && again != repeated_.end())
      return {again->second, Then::kClose};
    if (waiting.empty())
      return watch ? Answer{"HTTP/1.1 200 OK\r\n\r\n", Then::kSilent}
                   : Answer{
                         "HTTP/1.1 200 OK\r\nContent-Length: 49\r\n\r\n"
                         R"({"metadata":{"resourceVersion":"1"},"items":[]}  )",
                         Then::kClose};
    auto answer = std::move(waiting.front());
    waiting.pop_front();
    return answer;
  }

  Fd listener_;
  int port_ = 0;
  std::mutex mutex_;
  std::map<std::pair<bool, std::string>, std::deque<Answer>> answers_;
  std::map<std::pair<bool, std::string>, std::size_t> asked_;
  std::map<std::string, std::string> repeated_;
  std::set<int> open_;
  std::vector<std::thread> clients_;
  std::atomic<bool> stopping_{false};
  std::thread acceptor_;
};

std::string http(const std::string& body, const std::string& more = "",
                 const std::string& status = "200 OK") {
  return "HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\n" + more +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
std::string chunked(const std::string& body) {
  char size[32];
  std::snprintf(size, sizeof size, "%zx\r\n", body.size());
  return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(size) + body + "\r\n";
}
std::string line(const std::string& type, const std::string& object) { return event(type, object) + "\n"; }

using MalformedWatch = KubeSourceWith<RawServer>;

// Each cut costs the pause before another watch, so it is every nineteenth byte; lines cut at every byte:
// Lines in kube_source_test.cpp, and the fuzzer `watch`.
TEST_F(MalformedWatch, AStreamThatIsCutAnywhereLosesNothing) {
  const auto stream = line("ADDED", pod("two", "8")) + line("MODIFIED", pod("one", "9")) +
                      line("DELETED", pod("two", "10")) + line("ADDED", pod("three", "11"));
  const auto whole = chunked(stream);
  const auto head = whole.find("\r\n\r\n") + 4;
  for (std::size_t length = head; length <= whole.size(); length += 19) {
    SCOPED_TRACE(length);
    RawServer api;
    RecordingSink sink;
    api.next(false, kPods, http(list("7", pod("one", "6"))));
    api.next(true, kPods, whole.substr(0, length));
    // What a server that has all of it says afterwards, from wherever the watch is resumed.
    api.next(true, kPods, chunked(stream), RawServer::Then::kSilent);
    const auto source = started(config_of(api), sink);
    EXPECT_TRUE(sink.wait([](const auto& state) {
      return state.names(Kind::kPod) == std::vector<std::string>{"one", "three"};
    }));
    EXPECT_EQ(sink.state().replaced[Kind::kPod], 1) << "listed once only";
  }
}

struct Garbled {
  const char* what;
  std::string bytes;
  const char* error;  // in the status, while it goes on
};

TEST_F(MalformedWatch, AnswersThatAreNoneTakeNothingAway) {
  const auto good = list("9", pod("two", "8"));
  const std::vector<Garbled> answers = {
      {"nothing at all", "", "the connection broke"},
      {"half of a head", "HTTP/1.1 200 OK\r\nContent-Le", "the connection broke"},
      {"another protocol", "SSH-2.0-OpenSSH_9.2\r\n", "http://127.0.0.1"},
      {"TLS", std::string("\x15\x03\x01\x00\x02\x02\x46", 7), "http://127.0.0.1"},
      {"a length that is longer than the answer", "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + good,
       "the connection broke"},
      {"a chunk whose size is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n" + good,
       "http://127.0.0.1"},
      {"a chunk that ends early", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + good,
       "the connection broke"},
      {"half a rune",
       http(list("9", R"({"metadata":{"namespace":"a","name":"tw)" + std::string("\xe2\x82") + "\"}}")),
       "the answer is not JSON"},
      {"HTML", http("<html>gateway timeout</html>"), "the answer is not JSON"},
      {"another kind of thing", http(R"({"kind":"Status","status":"Success"})"),
       "answered with something that is no list"},
      {"items that are none", http(R"({"metadata":{"resourceVersion":"9"},"items":{"a":1}})"),
       "answered with something that is no list"},
      {"a list without a version", http(R"({"metadata":{},"items":[]})"),
       "answered with something that is no list"},
      {"busy, with a word about when to return", http("{}", "Retry-After: 0\r\n", "429 Too Many Requests"),
       "HTTP 429"},
      {"busy, with a word that makes no sense",
       http("{}", "Retry-After: -1 or Wed, 21 Oct 2099 07:28:00 GMT\r\n", "503 Service Unavailable"),
       "HTTP 503"},
      {"an error of its own",
       http(R"({"message":"etcd: request timed out"})", "", "500 Internal Server Error"),
       "HTTP 500: etcd: request timed out"},
      {"gone", http(R"({"code":410,"message":"too old"})", "", "410 Gone"), "HTTP 410: too old"},
      {"another place", http("", "Location: http://127.0.0.1:1/\r\n", "302 Found"), "HTTP 302"},
  };
  for (const auto& [what, bytes, error] : answers) {
    SCOPED_TRACE(what);
    RawServer api;
    RecordingSink sink;
    api.next(false, kPods, http(list("7", pod("one", "6"))));
    api.next(true, kPods, chunked(line("ERROR", R"({"code":410})")));  // leads to another list
    api.repeat(kPods, bytes);
    const auto source = started(config_of(api), sink);
    EXPECT_TRUE(eventually([&] {
      const auto last = source->status().last_error;
      return last.find("Pod: list: ") != std::string::npos && last.find(error) != std::string::npos;
    })) << source->status().last_error;
    EXPECT_FALSE(source->status().connected);
    EXPECT_EQ(sink.state().names(Kind::kPod), std::vector<std::string>{"one"});
    api.repeat(kPods, std::nullopt);
    EXPECT_TRUE(sink.wait([](const auto& state) { return state.names(Kind::kPod).empty(); }));
    EXPECT_TRUE(eventually([&] { return source->status().connected; }));
  }
}

TEST_F(MalformedWatch, ABookmarkAloneMovesTheVersionOn) {
  api_.next(false, kPods, http(list("7", pod("one", "6"))));
  api_.next(true, kPods, chunked(line("BOOKMARK", R"({"metadata":{"resourceVersion":"50"}})")));
  api_.next(true, kPods, chunked(line("ADDED", pod("two", "51"))), RawServer::Then::kSilent);
  start();
  EXPECT_TRUE(wait_for_pods({"one", "two"}));
  EXPECT_EQ(api_.asked(false, kPods), 1u);
}

TEST_F(MalformedWatch, AServerThatFallsSilentIsLeftAtOnceWhenAsked) {
  api_.next(false, kPods,
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"items\":", RawServer::Then::kSilent);
  start();
  EXPECT_TRUE(eventually([this] { return api_.asked(false, kPods) == 1; }));
  source_->stop();  // or the test would last as long as the read timeout
  EXPECT_FALSE(sink_.state().replaced.contains(Kind::kPod));
}

// ---- policies that cannot be used -------------------------------------------------------------------------
std::string policy(const std::string& version, const std::string& spec) {
  return R"({"metadata":{"namespace":"shop","name":"p","resourceVersion":")" + version + R"("},"spec":)" +
         spec + "}";
}
const std::string kGood =
    R"({"podSelector":{"matchLabels":{"app":"web"}},"ingress":[{"ports":[{"port":80}]}]})";
const std::string kBad = R"({"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"ports":[{"port":0}]}]})";
const model::ObjectKey kPolicy{Kind::kNetworkPolicy, "shop", "p"};

std::string shown(const RecordingSink::State& state) {
  if (!state.objects.contains(kPolicy)) return "none";
  const auto& known = std::get<model::NetworkPolicy>(state.objects.at(kPolicy));
  return known.pod_selector.to_string() + " " + std::to_string(known.ingress.size());
}

TEST_F(MalformedWatch, APolicyThatCannotBeUsedIsClosedOrStaysAsItWas) {
  api_.next(false, kPolicies, http(list("7", policy("6", kBad))));
  api_.next(true, kPolicies,
            chunked(line("MODIFIED", policy("8", kGood)) + line("MODIFIED", policy("9", kBad)) +
                    line("DELETED", policy("10", kBad)) + line("ADDED", policy("11", kBad))),
            RawServer::Then::kSilent);
  start();
  EXPECT_TRUE(sink_.wait([](const auto& state) { return state.rejections.size() == 3; }));
  const auto state = sink_.state();
  EXPECT_TRUE(state.rejections[0].ends_with("the pods that it selects are isolated and it admits nothing"));
  EXPECT_TRUE(state.rejections[1].ends_with("what was known of it before stays in force"));
  EXPECT_TRUE(state.rejections[2].ends_with("the pods that it selects are isolated and it admits nothing"));
  EXPECT_TRUE(sink_.wait([](const auto& now) { return shown(now) == "app=db 0"; }));
  ASSERT_TRUE(eventually([this] { return source_->status().rejected.size() == 1; }));
  const auto told = source_->status().rejected;
  EXPECT_NE(told[0].find("NetworkPolicy shop/p: spec.ingress[0].ports[0].port: 0 is not a port number"),
            std::string::npos);
}

TEST_F(MalformedWatch, AClosedPolicyGoesWithItsObjectAndOpensWhenItIsCorrected) {
  api_.next(false, kPolicies, http(list("7", policy("6", kBad))));
  api_.next(true, kPolicies, chunked(line("ERROR", R"({"code":410})")));
  api_.next(false, kPolicies, http(list("20", policy("19", kBad))));
  api_.next(true, kPolicies, chunked(line("ERROR", R"({"code":410})")));
  api_.next(false, kPolicies, http(list("30", policy("29", kGood))));
  api_.next(true, kPolicies, chunked(line("ERROR", R"({"code":410})")));
  api_.next(false, kPolicies, http(list("40", policy("39", kBad))));  // kept as it was
  api_.next(true, kPolicies, chunked(line("BOOKMARK", R"({"metadata":{"resourceVersion":"41"}})")),
            RawServer::Then::kSilent);
  start();
  EXPECT_TRUE(sink_.wait([](const auto& state) { return state.rejections.size() == 3; }));
  EXPECT_TRUE(sink_.wait([](const auto& state) { return shown(state) == "app=web 1"; }));
  EXPECT_TRUE(sink_.state().rejections[1].ends_with("it admits nothing"))
      << "still closed after another list";
  EXPECT_TRUE(sink_.state().rejections[2].ends_with("stays in force"));
  EXPECT_TRUE(eventually([this] { return source_->status().rejected.size() == 1; }));
}

}  // namespace
}  // namespace sluice::source
