// SPDX-License-Identifier: Apache-2.0
// The HTTP that the CNI binary understands: what a server on the daemon's socket may answer.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <semaphore>
#include <string>
#include <thread>

#include "cni/daemon.h"
#include "cni/http.h"
#include "common/fd.h"

namespace {

// Takes one connection at a time and answers each with the bytes of the moment.
class Answerer {
 public:
  Answerer() : path_("/tmp/sluice-fuzz-answer-" + std::to_string(::getpid())) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ::unlink(path_.c_str());
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 8) != 0)
      std::abort();
    thread_ = std::thread([this] { serve(); });
  }
  ~Answerer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    wanted_.release();
    thread_.join();
    ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }
  void next(std::string bytes) {
    idle_.acquire();
    bytes_ = std::move(bytes);
    wanted_.release();
  }

 private:
  void serve() {
    while (true) {
      wanted_.acquire();
      const sluice::Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client) return;
      char request[4096];
      (void)!::read(client.get(), request, sizeof request);
      (void)!::send(client.get(), bytes_.data(), bytes_.size(), MSG_NOSIGNAL);
      idle_.release();
    }
  }
  std::string path_;
  sluice::Fd listener_;
  std::binary_semaphore wanted_{0}, idle_{1};
  std::string bytes_;
  std::thread thread_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace std::chrono_literals;
  static Answerer answerer;
  answerer.next({reinterpret_cast<const char*>(data), size});
  const sluice::cni::Daemon daemon(answerer.path(), -1);
  const auto answer = daemon.get("/v1/cni/status", {5s, 5s});
  if (answer && !answer->is_object()) std::abort();
  if (!answer &&
      (answer.error().failure.msg.empty() && answer.error().kind != sluice::cni::Refusal::Kind::kRefused))
    std::abort();
  return 0;
}
