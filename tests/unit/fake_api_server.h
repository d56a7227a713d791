// SPDX-License-Identifier: Apache-2.0
// An API server on loopback that says what the test scripts: answers in order for each path, streams fed line
// by line. Where nothing is scripted, lists are empty and watches quiet.
#pragma once

#include <httplib.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace sluice::source {

// The body of a watch, written by the test as it goes on.
class FakeStream {
 public:
  void send(const std::string& text) {
    change([&] { pending_ += text; });
  }
  void line(const std::string& json) { send(json + "\n"); }
  void end() {
    change([&] { over_ = true; });
  }
  void cut() {  // the connection, with no proper end
    change([&] { over_ = cut_ = true; });
  }

  // One step of a chunked answer.
  bool write(httplib::DataSink& sink) {
    std::string text;
    bool over = false, cut = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return over_ || !pending_.empty(); });
      text.swap(pending_);
      over = over_;
      cut = cut_;
    }
    if (!text.empty() && !sink.write(text.data(), text.size())) return false;
    if (cut) return false;
    if (over) sink.done();
    return true;
  }

 private:
  template <typename How>
  void change(How how) {
    const std::lock_guard lock(mutex_);
    how();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string pending_;
  bool over_ = false, cut_ = false;
};

class FakeApiServer {
 public:
  struct Request {
    std::string path;
    httplib::Params params;
    std::string authorization;
    std::string host;
    std::chrono::steady_clock::time_point when;
    [[nodiscard]] std::string param(const std::string& name) const {
      const auto found = params.find(name);
      return found == params.end() ? "" : found->second;
    }
    [[nodiscard]] bool is_watch() const { return params.contains("watch"); }
  };
  using Answer = std::function<void(httplib::Response&)>;

  explicit FakeApiServer(std::unique_ptr<httplib::Server> server = std::make_unique<httplib::Server>())
      : server_(std::move(server)) {
    server_->new_task_queue = [] { return new httplib::ThreadPool(24); };
    const auto any = [this](const httplib::Request& request, httplib::Response& response) {
      serve(request, response);
    };
    server_->Get(".*", any);
    server_->Delete(".*", any);
    port_ = server_->bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_->listen_after_bind(); });
  }
  ~FakeApiServer() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (auto& stream : streams_) stream->cut();
    }
    while (!server_->is_running()) std::this_thread::yield();  // stop() before that is lost
    server_->stop();
    thread_.join();
  }

  [[nodiscard]] int port() const { return port_; }

  static Answer body(const std::string& text, int status = 200) {
    return [=](httplib::Response& response) {
      response.status = status;
      response.set_content(text, "application/json");
    };
  }
  static Answer busy(int status, const std::string& retry_after) {
    return [=](httplib::Response& response) {
      response.status = status;
      response.set_header("Retry-After", retry_after);
      response.set_content(R"({"kind":"Status","message":"too busy"})", "application/json");
    };
  }

  // The next answer to a list (or to a get, or delete) of that path, and to a watch of it.
  void on_list(const std::string& path, Answer answer) {
    const std::lock_guard lock(mutex_);
    lists_[path].push_back(std::move(answer));
  }
  void on_watch(const std::string& path, Answer answer) {
    const std::lock_guard lock(mutex_);
    watches_[path].push_back(std::move(answer));
  }
  std::shared_ptr<FakeStream> stream_on_watch(const std::string& path) {
    auto stream = new_stream();
    on_watch(path, [stream](httplib::Response& response) { attach(stream, response); });
    return stream;
  }
  std::shared_ptr<FakeStream> stream_on_list(const std::string& path) {
    auto stream = new_stream();
    on_list(path, [stream](httplib::Response& response) { attach(stream, response); });
    return stream;
  }
  void require_token(const std::string& token) {
    const std::lock_guard lock(mutex_);
    token_ = token;
  }

  // False: there never were as many requests for the path.
  bool wait_for(const std::string& path, bool watch, std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60),
                             [&] { return matching(path, watch).size() >= count; });
  }
  std::vector<Request> requests(const std::string& path, bool watch) {
    const std::lock_guard lock(mutex_);
    return matching(path, watch);
  }

 private:
  static void attach(const std::shared_ptr<FakeStream>& stream, httplib::Response& response) {
    response.set_chunked_content_provider(
        "application/json", [stream](std::size_t, httplib::DataSink& sink) { return stream->write(sink); });
  }
  std::shared_ptr<FakeStream> new_stream() {
    auto stream = std::make_shared<FakeStream>();
    const std::lock_guard lock(mutex_);
    if (stopping_) stream->cut();
    streams_.push_back(stream);
    return stream;
  }
  std::vector<Request> matching(const std::string& path, bool watch) const {
    std::vector<Request> found;
    for (const auto& request : requests_) {
      if (request.path == path && request.is_watch() == watch) found.push_back(request);
    }
    return found;
  }
  void serve(const httplib::Request& request, httplib::Response& response) {
    Answer answer;
    const bool watch = request.has_param("watch");
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back({request.path, request.params, request.get_header_value("Authorization"),
                           request.get_header_value("Host"), std::chrono::steady_clock::now()});
      auto& answers = (watch ? watches_ : lists_)[request.path];
      if (!token_.empty() && requests_.back().authorization != "Bearer " + token_) {
        answer = body(R"({"kind":"Status","message":"Unauthorized"})", 401);
      } else if (!answers.empty()) {
        answer = std::move(answers.front());
        answers.pop_front();
      }
      changed_.notify_all();
    }
    if (answer) {
      answer(response);
    } else if (watch) {
      attach(new_stream(), response);
    } else {
      body(R"({"metadata":{"resourceVersion":"1"},"items":[]})")(response);
    }
  }

  std::unique_ptr<httplib::Server> server_;
  int port_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::deque<Answer>> lists_, watches_;
  std::vector<Request> requests_;
  std::vector<std::shared_ptr<FakeStream>> streams_;
  std::string token_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::source
