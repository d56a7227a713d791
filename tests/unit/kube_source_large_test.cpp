// SPDX-License-Identifier: Apache-2.0
// Objects of one tenant that are as large as the API server takes them, or larger, stop neither the daemon
// nor what others' objects say.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/unit/fake_api_server.h"
#include "tests/unit/kube_source_fixture.h"

namespace sluice::source {
namespace {

using model::Kind;

std::string policy(const std::string& ns, const std::string& name, const std::string& spec,
                   const std::string& more = "") {
  return R"({"metadata":{"name":")" + name + R"(","namespace":")" + ns + R"(","resourceVersion":"6")" + more +
         R"(},"spec":)" + spec + "}";
}

// A list whose items are made while it is sent, so that the test's server holds one at a time too.
FakeApiServer::Answer list_of(std::size_t count, const std::function<std::string(std::size_t)>& item) {
  return [=](httplib::Response& response) {
    response.set_chunked_content_provider(
        "application/json", [=, sent = std::size_t{0}](std::size_t, httplib::DataSink& sink) mutable {
          std::string text = sent == 0 ? R"({"metadata":{"resourceVersion":"7"},"items":[)" : ",";
          text += item(sent++);
          if (sent == count) text += "]}";
          if (!sink.write(text.data(), text.size())) return false;
          if (sent == count) sink.done();
          return true;
        });
  };
}

std::size_t peak_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6));
  return 0;
}

using KubeSourceLarge = KubeSourceWith<FakeApiServer>;

// What it takes of memory beyond the objects themselves is one object's worth, not a page's.
TEST_F(KubeSourceLarge, ALongListOfLargeObjectsIsReadOneAtATime) {
#ifdef __SANITIZE_ADDRESS__
  constexpr std::size_t kHeldBackKib = 256 << 10;  // what was freed, so that its use is seen
#else
  constexpr std::size_t kHeldBackKib = 0;
#endif
  constexpr std::size_t kCount = 40, kMostKib = (300 << 10) + kHeldBackKib;
  // JSON that is small as an object of ours: what is measured is the reading.
  std::string large = R"({"podSelector":{"matchLabels":{"app":"nobody"}},"unknown":[0)";
  while (large.size() < 1200000) large += R"(,{"port":80})";
  large += "]}";
  api_.on_list(kPolicies, list_of(kCount, [large](std::size_t i) {
                 return policy("tenant", "p" + std::to_string(i), large);
               }));
  { std::ofstream("/proc/self/clear_refs") << "5"; }  // the peak begins anew
  const auto before = peak_kib();
  start();
  ASSERT_TRUE(sink_.wait([&](const auto& state) {
    return state.synced() && state.names(Kind::kNetworkPolicy).size() == kCount;
  }));
  RecordProperty("peak_kib", std::to_string(peak_kib() - before));
  EXPECT_LT(peak_kib() - before, kMostKib);
}

TEST_F(KubeSourceLarge, AnObjectThatIsTooLongIsRejectedAloneAndItsNamespaceClosed) {
  const std::string too_long(9 << 20, 'x');
  api_.on_list(kPolicies, list_of(3, [too_long](std::size_t i) {
                 if (i != 1) return policy("shop", "p" + std::to_string(i), R"({"podSelector":{}})");
                 return policy("tenant", "long", R"({"podSelector":{"matchLabels":{"a":"b"}}})",
                               R"(,"annotations":{"note":")" + too_long + "\"}");
               }));
  start();
  ASSERT_TRUE(sink_.wait(
      [&](const auto& state) { return state.synced() && state.names(Kind::kNetworkPolicy).size() == 3; }));
  const auto state = sink_.state();
  EXPECT_TRUE(state.rejected("NetworkPolicy tenant/long is longer than 8388608 bytes of JSON"));
  const auto& closed =
      std::get<model::NetworkPolicy>(state.objects.at({Kind::kNetworkPolicy, "tenant", "long"}));
  EXPECT_EQ(closed.pod_selector.to_string(), "<all>");
  EXPECT_TRUE(closed.isolates_ingress && closed.isolates_egress);
  EXPECT_TRUE(closed.ingress.empty() && closed.egress.empty());
  EXPECT_EQ(source_->status().rejected.size(), 1U);
}

}  // namespace
}  // namespace sluice::source
