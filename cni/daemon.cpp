// SPDX-License-Identifier: Apache-2.0
#include "cni/daemon.h"

#include <fmt/format.h>

#include "daemon/server/api.h"

namespace sluice::cni {

using nlohmann::json;

namespace {

constexpr const char* kLookAtDaemon =
    "is the sluiced pod of this node running? 'kubectl get pods -A -o wide -l app.kubernetes.io/name=sluice' "
    "shows "
    "it; its log says more";

tl::unexpected<Refusal> refuse(Refusal::Kind kind, tl::unexpected<Failure> failure) {
  return tl::unexpected<Refusal>(Refusal{kind, failure.value()});
}

}  // namespace

tl::expected<json, Refusal> Daemon::get(const std::string& path, const HttpPatience& patience) const {
  return call({"GET", path, ""}, patience);
}

tl::expected<json, Refusal> Daemon::post(const std::string& path, const json& body,
                                         const HttpPatience& patience) const {
  return call({"POST", path, dump(body)}, patience);
}

tl::expected<json, Refusal> Daemon::call(const HttpRequest& request, const HttpPatience& patience) const {
  const auto answer = http_call(socket_, request, patience, stop_fd_);
  if (!answer) {
    const auto& [sent, error] = answer.error();
    return refuse(
        sent ? Refusal::Kind::kNoAnswer : Refusal::Kind::kNotReached,
        fail(server::kCniTryAgainLater,
             fmt::format("sluiced {} on {}", sent ? "did not answer" : "cannot be reached", socket_),
             fmt::format("{}; {}", error.message, kLookAtDaemon)));
  }
  auto body = json::parse(answer->body, nullptr, false);
  const bool good = answer->status >= 200 && answer->status < 300;
  if (good && body.is_object()) return body;
  if (good)
    return refuse(
        Refusal::Kind::kNoAnswer,
        fail(server::kCniInternal, fmt::format("sluiced answered {} with no JSON object", request.path),
             "sluice-cni and sluiced may be of different versions"));
  if (!body.is_object() || !body.contains("code") || !body["code"].is_number_integer())
    return refuse(Refusal::Kind::kNoAnswer,
                  fail(server::kCniInternal,
                       fmt::format("sluiced answered HTTP {} to {}", answer->status, request.path),
                       answer->body.substr(0, 1000)));
  return refuse(Refusal::Kind::kRefused,
                fail(body["code"].get<int>(), text_of(body, "msg"), text_of(body, "details")));
}

json to_json(const AttachmentKey& key) { return {{"containerID", key.container_id}, {"ifname", key.ifname}}; }

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string text_of(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace sluice::cni
