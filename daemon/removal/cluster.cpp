// SPDX-License-Identifier: Apache-2.0
#include "daemon/removal/cluster.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "daemon/source/kube/connection.h"
#include "daemon/source/kube/decode.h"

namespace sluice::removal {

using nlohmann::json;
using namespace std::chrono_literals;

namespace {

constexpr auto kStepTimeout = 5s;
constexpr std::size_t kAnswerMost = 32 << 20;
constexpr int kAccepted = 202, kNotFound = 404;

class Api {
 public:
  explicit Api(const source::KubeConfig& config) : config_(config) {}

  // The object that was answered, an empty one for "accepted", null for "not found"; else an error.
  [[nodiscard]] Result<json> call(const char* method, const std::string& path) const try {
    auto connection = source::Connection::make(config_, {kStepTimeout, kStepTimeout},
                                               std::make_shared<source::Interrupter>());
    if (!connection) return tl::unexpected(connection.error());
    std::string body;
    const auto answer = (*connection)->call(method, path, {{}, [&](std::string_view data) {
                                                             body.append(data);
                                                             return body.size() <= kAnswerMost;
                                                           }});
    if (!answer) return tl::unexpected(answer.error());
    if (answer->status == kNotFound) return json();
    if (answer->status == kAccepted) return json::object();
    if (answer->status != 200) return failure("{} {}: {}", method, path, answer->error);
    auto object = source::decode(body);
    if (object && !object->is_object()) return failure("{} {}: the answer is no object", method, path);
    return object;
  } catch (const std::exception& error) {
    return failure("{} {}: {}", method, path, error.what());
  }

 private:
  const source::KubeConfig& config_;
};

std::uint64_t number_at(const json& object, const char* outer, const char* inner) {
  const auto part = object.find(outer);
  if (part == object.end() || !part->is_object()) return 0;
  const auto found = part->find(inner);
  return found != part->end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

const json& list_at(const json& object, const char* outer, const char* inner) {
  static const json none = json::array();
  const auto part = object.find(outer);
  if (part == object.end() || !part->is_object()) return none;
  const auto found = part->find(inner);
  return found != part->end() && found->is_array() ? *found : none;
}

bool is_ready(const json& pod) {
  for (const auto& condition : list_at(pod, "status", "conditions"))
    if (condition.value("type", "") == "Ready") return condition.value("status", "") == "True";
  return false;
}

// Where the pod stands, in a few words.
std::string state_of(const json& pod) {
  for (const auto* kind : {"initContainerStatuses", "containerStatuses"})
    for (const auto& container : list_at(pod, "status", kind))
      for (const auto* state : {"waiting", "terminated"})
        if (const auto reason = source::text_at(container.value("state", json::object()), state, "reason");
            !reason.empty() && reason != "Completed" && reason != "PodInitializing")
          return fmt::format("{}: {}", container.value("name", ""), reason);
  const auto phase = source::text_at(pod, "status", "phase");
  return phase.empty() ? "no state is known" : phase;
}

// The nodes whose pod is not Ready, with why, as far as the API server says.
std::string name_the_rest(const Api& api, const std::string& folder, const json& removers) {
  std::string selector;
  const auto spec = removers.find("spec");
  const auto labels = spec == removers.end() ? json::object() : spec->at("selector").at("matchLabels");
  for (const auto& [key, value] : labels.items())
    selector += (selector.empty() ? "" : ",") + key + "=" + value.get<std::string>();
  const auto pods = api.call("GET", folder + "/pods?labelSelector=" + source::percent_encode(selector));
  if (!pods) return pods.error().message;
  std::vector<std::string> left;
  for (const auto& pod : pods->value("items", json::array())) {
    if (is_ready(pod)) continue;
    const auto node = source::text_at(pod, "spec", "nodeName");
    left.push_back(fmt::format("{} (pod {}, {})", node.empty() ? "a node without the pod" : node,
                               source::text_at(pod, "metadata", "name"), state_of(pod)));
  }
  return left.empty() ? "no pod is there for them yet" : fmt::format("{}", fmt::join(left, ", "));
}

}  // namespace

Result<void> remove_from_cluster(const source::KubeConfig& config, const ClusterPlan& plan) try {
  const auto deadline = std::chrono::steady_clock::now() + plan.time_limit;
  const Api api(config);
  const auto ns = source::percent_encode(plan.ns);
  const auto folder = "/apis/apps/v1/namespaces/" + ns + "/daemonsets/";
  std::string told, problem;
  json removers;
  std::uint64_t wanted = 0, done = 0;
  for (bool deleted = false;; std::this_thread::sleep_for(plan.pause)) {
    if (std::chrono::steady_clock::now() >= deadline) break;
    if (!deleted) {
      const auto answer = api.call("DELETE", folder + source::percent_encode(plan.daemons));
      problem = answer ? "" : answer.error().message;
      if (answer) spdlog::info("the daemons (DaemonSet {}/{}) are stopped", plan.ns, plan.daemons);
      deleted = answer.has_value();
    }
    if (deleted) {
      auto answer = api.call("GET", folder + source::percent_encode(plan.removers));
      problem = answer ? "" : answer.error().message;
      if (answer && answer->is_null())
        return failure("there is no DaemonSet {}/{}, whose pods remove Sluice", plan.ns, plan.removers);
      if (answer) removers = std::move(*answer);
    }
    if (!problem.empty()) {
      if (std::exchange(told, problem) != problem) spdlog::error("{}; tried again", problem);
      continue;
    }
    if (number_at(removers, "status", "observedGeneration") < number_at(removers, "metadata", "generation"))
      continue;
    wanted = number_at(removers, "status", "desiredNumberScheduled");
    done = number_at(removers, "status", "numberReady");
    const auto state = fmt::format("Sluice is removed from {} of {} nodes", done, wanted);
    if (std::exchange(told, state) != state) spdlog::info("{}", state);
    if (done >= wanted) return {};
  }
  if (removers.is_null()) return failure("{}", problem);
  return failure(
      "Sluice is not removed from {} of {} nodes within {} s: {}. The other nodes are done. Mend or delete "
      "these nodes and run `helm uninstall` again, or leave them as they are: `helm uninstall --no-hooks` "
      "(docs/uninstall.md)",
      wanted - std::min(done, wanted), wanted,
      std::chrono::duration_cast<std::chrono::seconds>(plan.time_limit).count(),
      name_the_rest(api, "/api/v1/namespaces/" + ns, removers));
} catch (const json::exception& error) {
  return failure("the API server's answer has another shape than expected: {}", error.what());
}

}  // namespace sluice::removal
