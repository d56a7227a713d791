// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/kube_source.h"

#include <chrono>

#include "daemon/model/parse.h"
#include "daemon/source/kube/connection.h"
#include "daemon/source/kube/decode.h"
#include "daemon/source/kube/progress.h"
#include "daemon/source/kube/watcher.h"

namespace sluice::source {

namespace {

using namespace std::chrono_literals;

constexpr auto kGetTimeout = 2s;
constexpr std::size_t kPodMost = 16 << 20;

// Fires an interrupter from a deadline on until it is destroyed: httplib's timeouts are for each step, not
// the whole.
class Deadline {
 public:
  Deadline(std::shared_ptr<Interrupter> interrupter, std::chrono::steady_clock::time_point when)
      : thread_([this, interrupter = std::move(interrupter), when] {
          std::unique_lock lock(mutex_);
          if (changed_.wait_until(lock, when, [this] { return over_; })) return;
          do {
            interrupter->fire();
          } while (!changed_.wait_for(lock, 20ms, [this] { return over_; }));
        }) {}
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

KubeSource::KubeSource(KubeConfig config)
    : config_(std::move(config)), progress_(std::make_unique<Progress>("Kubernetes API " + config_.url())) {}

KubeSource::~KubeSource() { stop(); }

Result<std::unique_ptr<KubeSource>> KubeSource::make(KubeConfig config) {
  if (auto good = config.check(); !good) return tl::unexpected(good.error());
  // Says at once that a certificate or token cannot be read, rather than with the first attempt.
  const auto probe = Connection::make(config, {1s, 1s}, std::make_shared<Interrupter>());
  if (!probe) return tl::unexpected(probe.error());
  return std::unique_ptr<KubeSource>(new KubeSource(std::move(config)));
}

Result<void> KubeSource::start(Sink& sink) {
  if (!threads_.empty()) return failure("the source runs already");
  for (std::size_t i = 0; i < model::kKinds; ++i)
    watchers_.push_back(std::make_unique<Watcher>(static_cast<model::Kind>(i), config_, sink, *progress_));
  running_ = watchers_.size();
  for (auto& watcher : watchers_) {
    threads_.emplace_back([this, &watcher] {
      watcher->run();
      const std::lock_guard lock(mutex_);
      --running_;
      ended_.notify_one();
    });
  }
  return {};
}

void KubeSource::stop() {
  if (threads_.empty()) return;
  {
    std::unique_lock lock(mutex_);
    // Again and again, because a socket that is just being opened does not feel the first time.
    do {
      for (auto& watcher : watchers_) watcher->stop();
    } while (!ended_.wait_for(lock, 20ms, [this] { return running_ == 0; }));
  }
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  watchers_.clear();
  progress_->stopped();
}

Status KubeSource::status() const { return progress_->status(); }

Result<std::optional<model::Pod>> KubeSource::get_pod(const std::string& ns, const std::string& name) const
    try {
  const auto interrupter = std::make_shared<Interrupter>();
  const Deadline deadline(interrupter, std::chrono::steady_clock::now() + kGetTimeout);
  const auto context = fmt::format("pod {}/{}", ns, name);
  auto connection = Connection::make(config_, {kGetTimeout, kGetTimeout}, interrupter);
  if (!connection) return with_context(connection.error(), context);

  std::string body;
  const auto path = fmt::format("/api/v1/namespaces/{}/pods/{}", percent_encode(ns), percent_encode(name));
  const auto response = (*connection)->get(path, {{}, [&](std::string_view data) {
                                                    body.append(data);
                                                    return body.size() <= kPodMost;
                                                  }});
  if (!response) return with_context(response.error(), context);
  if (response->status == 404) return std::nullopt;
  if (response->status != 200) return failure("{}: {}", context, response->error);
  const auto tree = decode_object(body);
  if (!tree) return with_context(tree.error(), context);
  auto parsed = model::parse_object(tree->root(), model::Kind::kPod);
  if (!parsed) return tl::unexpected(parsed.error());
  return std::get<model::Pod>(std::move(parsed->object));
} catch (const std::exception& error) {
  return failure("pod {}/{}: {}", ns, name, error.what());
}

}  // namespace sluice::source
