// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "cni/http.h"
#include "common/fd.h"

namespace sluice::cni {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr HttpPatience kPatience{seconds(0), seconds(20)};

class CniHttp : public testing::Test {
 protected:
  CniHttp() {
    char pattern[] = "/tmp/sluice-http-XXXXXX";
    folder_ = mkdtemp(pattern);
    path_ = folder_ + "/s";
  }
  ~CniHttp() override {
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove_all(folder_);
  }

  Fd listen_here() const {
    Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path_.c_str());
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(fd.get(), 4), 0);
    return fd;
  }

  // Accepts one connection, reads one request into request_, does `reply`, hangs up.
  void serve(std::function<void(int)> reply) {
    thread_ = std::thread([this, reply = std::move(reply), listener = listen_here()] {
      const Fd fd(accept(listener.get(), nullptr, nullptr));
      char buffer[4096];
      while (request_.find("\r\n\r\n") == std::string::npos) {
        const auto count = recv(fd.get(), buffer, sizeof buffer, 0);
        if (count <= 0) return;
        request_.append(buffer, static_cast<std::size_t>(count));
      }
      reply(fd.get());
    });
  }
  void serve_text(std::string text) {
    serve([text = std::move(text)](int fd) { send(fd, text.data(), text.size(), MSG_NOSIGNAL); });
  }

  tl::expected<HttpAnswer, HttpError> call(const HttpPatience& patience = kPatience, int stop_fd = -1) {
    auto answer = http_call(path_, {"POST", "/v1/x", "{}"}, patience, stop_fd);
    if (thread_.joinable()) thread_.join();
    return answer;
  }

  std::string folder_, path_, request_;
  std::thread thread_;
};

TEST_F(CniHttp, RequestIsComplete) {
  serve_text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
  ASSERT_TRUE(call());
  EXPECT_EQ(request_.find("POST /v1/x HTTP/1.1\r\nHost: sluice\r\n"), 0U) << request_;
  EXPECT_NE(request_.find("\r\nContent-Length: 2\r\n"), std::string::npos) << request_;
  EXPECT_EQ(request_.substr(request_.size() - 6), "\r\n\r\n{}");
}

TEST_F(CniHttp, AnswersAreUnderstood) {
  struct Case {
    std::string text;
    int status;
    std::string body;
  };
  const std::vector<Case> cases{
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"},
      {"HTTP/1.1 200 OK\r\ncontent-length:5 \r\nX: y\r\n\r\nhello and more", 200, "hello"},
      {"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", 500, ""},
      {"HTTP/1.0 404\r\n\r\nto the end", 404, "to the end"},
      {"HTTP/1.1 200 \r\nServer: x\r\n\r\n", 200, ""}};
  for (const auto& each : cases) {
    SCOPED_TRACE(each.text);
    serve_text(each.text);
    const auto answer = call();
    ASSERT_TRUE(answer) << answer.error().error.message;
    EXPECT_EQ(answer->status, each.status);
    EXPECT_EQ(answer->body, each.body);
    std::filesystem::remove(path_);
    request_.clear();
  }
}

TEST_F(CniHttp, AnAnswerInPiecesIsPutTogether) {
  const std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
  serve([&](int fd) {
    for (const char c : text) {
      send(fd, &c, 1, MSG_NOSIGNAL);
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  const auto answer = call();
  ASSERT_TRUE(answer) << answer.error().error.message;
  EXPECT_EQ(answer->body, "hello world");
}

TEST_F(CniHttp, EveryTruncationIsAnErrorAfterTheRequestWasSent) {
  const std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
  for (std::size_t length = 0; length < text.size(); ++length) {
    SCOPED_TRACE(text.substr(0, length));
    serve_text(text.substr(0, length));
    const auto answer = call();
    ASSERT_FALSE(answer);
    EXPECT_TRUE(answer.error().sent);
    std::filesystem::remove(path_);
    request_.clear();
  }
}

TEST_F(CniHttp, NonsenseIsAnError) {
  for (const std::string text :
       {"\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}) {
    SCOPED_TRACE(text);
    serve_text(text);
    const auto answer = call();
    ASSERT_FALSE(answer);
    EXPECT_TRUE(answer.error().sent);
    std::filesystem::remove(path_);
    request_.clear();
  }
}

TEST_F(CniHttp, AnEndlessHeadOrBodyIsGivenUp) {
  for (const std::string begin : {"", "HTTP/1.1 200 OK\r\n\r\n"}) {
    serve([&](int fd) {
      const std::string block(1 << 16, 'x');
      send(fd, begin.data(), begin.size(), MSG_NOSIGNAL);
      while (send(fd, block.data(), block.size(), MSG_NOSIGNAL) > 0) {
      }
    });
    EXPECT_FALSE(call());
    std::filesystem::remove(path_);
    request_.clear();
  }
}

TEST_F(CniHttp, NobodyThereIsToldFromNoAnswer) {
  auto answer = call();
  ASSERT_FALSE(answer);
  EXPECT_FALSE(answer.error().sent);
  EXPECT_EQ(answer.error().error.code, ENOENT);
  listen_here();  // and closes it: the socket stays behind
  answer = call();
  ASSERT_FALSE(answer);
  EXPECT_FALSE(answer.error().sent);
  EXPECT_EQ(answer.error().error.code, ECONNREFUSED);
}

TEST_F(CniHttp, AListenerThatComesLaterIsReached) {
  std::thread later([this] {
    std::this_thread::sleep_for(milliseconds(100));
    serve_text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
  });
  const auto answer = http_call(path_, {"GET", "/", ""}, {seconds(20), seconds(20)}, -1);
  later.join();
  EXPECT_TRUE(answer);
}

TEST_F(CniHttp, PatienceEnds) {
  std::atomic<bool> over = false;
  serve([&](int) {
    while (!over) std::this_thread::sleep_for(milliseconds(5));
  });
  const auto answer = http_call(path_, {"GET", "/", ""}, {seconds(0), milliseconds(50)}, -1);
  over = true;
  thread_.join();
  ASSERT_FALSE(answer);
  EXPECT_TRUE(answer.error().sent);
  EXPECT_NE(answer.error().error.message.find("in time"), std::string::npos);
}

TEST_F(CniHttp, StopEndsAllWaiting) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const Fd read_end(ends[0]), write_end(ends[1]);
  ASSERT_EQ(write(write_end.get(), "x", 1), 1);
  const HttpPatience forever{seconds(600), seconds(600)};
  auto answer = http_call(path_, {"GET", "/", ""}, forever, read_end.get());
  ASSERT_FALSE(answer);
  EXPECT_FALSE(answer.error().sent);
  EXPECT_NE(answer.error().error.message.find("signal"), std::string::npos);
  const auto listener = listen_here();  // connects, never answers
  answer = http_call(path_, {"GET", "/", ""}, forever, read_end.get());
  ASSERT_FALSE(answer);
  EXPECT_TRUE(answer.error().sent);
}

TEST_F(CniHttp, APathThatIsTooLongIsAnError) {
  const auto answer = http_call("/" + std::string(200, 'x'), {"GET", "/", ""}, kPatience, -1);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().error.code, ENAMETOOLONG);
}

}  // namespace
}  // namespace sluice::cni
