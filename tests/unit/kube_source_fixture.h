// SPDX-License-Identifier: Apache-2.0
// A Kubernetes source and the API server that the test puts behind it; what such a server says.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "daemon/source/kube/kube_source.h"
#include "tests/unit/recording_sink.h"

namespace sluice::source {

inline const std::string kPods = "/api/v1/pods";
inline const std::string kPolicies = "/apis/networking.k8s.io/v1/networkpolicies";
inline const std::string kServices = "/api/v1/services";
inline const std::string kSlices = "/apis/discovery.k8s.io/v1/endpointslices";
inline const std::string kServiceCidrs = "/apis/networking.k8s.io/v1/servicecidrs";

inline std::string pod(const std::string& name, const std::string& version, const std::string& spec = "{}") {
  return R"({"metadata":{"namespace":"a","name":")" + name + R"(","resourceVersion":")" + version +
         R"(","managedFields":[{"fieldsV1":{"f:x":{}}}]},"spec":)" + spec + "}";
}
inline std::string list(const std::string& version, const std::string& items, const std::string& more = "") {
  return R"({"metadata":{"resourceVersion":")" + version + R"(","continue":")" + more + R"("},"items":[)" +
         items + "]}";
}
inline std::string event(const std::string& type, const std::string& object) {
  return R"({"type":")" + type + R"(","object":)" + object + "}";
}

template <typename Server>
class KubeSourceWith : public testing::Test {
 protected:
  static KubeConfig config_of(const Server& api) {
    KubeConfig config;
    EXPECT_TRUE(config.set_server("http://127.0.0.1:" + std::to_string(api.port())));
    return config;
  }
  static std::unique_ptr<KubeSource> started(const KubeConfig& config, Sink& sink) {
    auto source = KubeSource::make(config).value();  // throws its error
    EXPECT_TRUE(source->start(sink));
    return source;
  }
  void start(const KubeConfig& config) { source_ = started(config, sink_); }
  void start() { start(config_of(api_)); }
  bool wait_for_pods(const std::vector<std::string>& names) {
    return sink_.wait(
        [&](const auto& state) { return state.synced() && state.names(model::Kind::kPod) == names; });
  }

  Server api_;
  RecordingSink sink_;
  std::unique_ptr<KubeSource> source_;  // stops first
};

}  // namespace sluice::source
