// SPDX-License-Identifier: Apache-2.0
// Prometheus text format from plain values, so that what is counted elsewhere (in the kernel's maps, mostly)
// need not be counted twice.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sluice::server {

enum class MetricType { kCounter, kGauge };

struct Sample {
  double value = 0;
  std::vector<std::pair<std::string, std::string>> labels;
};

struct Metric {
  std::string name;  // "sluice_drops_total"
  std::string help;
  MetricType type = MetricType::kCounter;
  std::vector<Sample> samples;
};

[[nodiscard]] std::string render_metrics(const std::vector<Metric>& metrics);

}  // namespace sluice::server
