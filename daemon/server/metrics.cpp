// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace sluice::server {

std::string render_metrics(const std::vector<Metric>& metrics) {
  std::vector<prometheus::MetricFamily> families;
  families.reserve(metrics.size());
  for (const auto& metric : metrics) {
    const bool counter = metric.type == MetricType::kCounter;
    prometheus::MetricFamily family;
    family.name = metric.name;
    family.help = metric.help;
    family.type = counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
    for (const auto& sample : metric.samples) {
      prometheus::ClientMetric value;
      for (const auto& [label, text] : sample.labels) value.label.push_back({label, text});
      (counter ? value.counter.value : value.gauge.value) = sample.value;
      family.metric.push_back(std::move(value));
    }
    families.push_back(std::move(family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace sluice::server
