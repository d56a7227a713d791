// SPDX-License-Identifier: Apache-2.0
// A request on the daemon's socket, and on its port for probes.
#include "daemon/server/http.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

namespace sluice::server {
namespace {

using nlohmann::json;

class PlainApi final : public Api {
 public:
  explicit PlainApi(bool of_control) : of_control_(of_control) {}
  Answer cni_add(const json& body) override { return object(body); }
  Answer cni_del(const json& body) override { return object(body); }
  Answer cni_check(const json& body) override { return object(body); }
  Answer cni_gc(const json& body) override { return object(body); }
  Answer cni_status() override { return object(json::object()); }
  Answer status() override { return object(json::object()); }
  Answer endpoints() override { return object(json::object()); }
  Answer endpoint_policy(const std::string& which) override { return object({{"which", which}}); }
  Answer firewall() override { return object(json::object()); }
  Answer services() override { return {200, json::object()}; }
  Answer modules() override { return object(json::object()); }
  Answer conntrack_list(const ConnectionQuery&) override { return {}; }
  Answer conntrack_flush(const ConnectionQuery&) override { return {}; }
  bool alive() override { return true; }
  bool ready(std::string&) override { return true; }
  std::string metrics() override { return "sluice_up 1\n"; }
  void monitor(bool, bool, const std::function<bool(const std::string&)>& line) override {
    if (!of_control_) std::abort();
    line("{}");
  }

 private:
  Answer object(const json& body) const {
    if (!of_control_ || !body.is_object()) std::abort();
    return {200, body};
  }
  const bool of_control_;  // the port for probes must not reach this
};

std::string ask(Http& http, const std::uint8_t* data, std::size_t size) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) std::abort();
  const Fd client(ends[0]);
  Connection connection{Fd(ends[1]), ""};
  (void)!::send(client.get(), data, size, MSG_NOSIGNAL);
  ::shutdown(client.get(), SHUT_WR);
  http.serve(connection);
  std::string answer;
  char part[4096];
  for (ssize_t got; (got = ::recv(client.get(), part, sizeof part, 0)) > 0;)
    answer.append(part, static_cast<std::size_t>(got));
  return answer;
}

}  // namespace
}  // namespace sluice::server

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice::server;
  static PlainApi control_api(true), health_api(false);
  static Http control(control_api, Http::Face::kControl), health(health_api, Http::Face::kHealth);
  for (auto* http : {&control, &health}) {
    const auto answer = ask(*http, data, size);
    if (!answer.empty() && !answer.starts_with("HTTP/1.1 ")) std::abort();
  }
  return 0;
}
