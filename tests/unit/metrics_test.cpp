// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/metrics.h"

#include <gtest/gtest.h>

namespace sluice::server {
namespace {

TEST(Metrics, RendersCountersAndGauges) {
  EXPECT_EQ(render_metrics({{"sluice_drops_total",
                             "Packets dropped.",
                             MetricType::kCounter,
                             {{3, {{"reason", "TTL_EXPIRED"}}}, {0, {{"reason", "NO_ROUTE"}}}}},
                            {"sluice_endpoints", "Endpoints.", MetricType::kGauge, {{17, {}}}}}),
            "# HELP sluice_drops_total Packets dropped.\n"
            "# TYPE sluice_drops_total counter\n"
            "sluice_drops_total{reason=\"TTL_EXPIRED\"} 3\n"
            "sluice_drops_total{reason=\"NO_ROUTE\"} 0\n"
            "# HELP sluice_endpoints Endpoints.\n"
            "# TYPE sluice_endpoints gauge\n"
            "sluice_endpoints 17\n");
}

TEST(Metrics, EscapesLabelsAndKeepsLargeNumbersExact) {
  const auto text = render_metrics(
      {{"sluice_x", "X.", MetricType::kCounter, {{9007199254740991.0, {{"policy", "a\"b\\c\nd"}}}}}});
  EXPECT_NE(text.find(R"(sluice_x{policy="a\"b\\c\nd"} 9007199254740991)"), std::string::npos) << text;
}

}  // namespace
}  // namespace sluice::server
