// SPDX-License-Identifier: Apache-2.0
// A file of the YAML folder: YAML or JSON to objects. What was known before a file that cannot be read stays.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "daemon/source/files.h"
#include "daemon/source/yaml/convert.h"
#include "daemon/source/yaml/file.h"

namespace {

constexpr const char* kBefore = R"(
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: before, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}
)";

void read(const std::string& name, const std::string& text) {
  using sluice::source::File;
  File file(name);
  file.update(name.ends_with(".json") ? "{}" : kBefore);
  const auto before = file.entries();
  const auto known = file.known();
  file.update(text);
  for (const auto& problem : file.problems())
    if (!problem.starts_with(name + ":") || problem.size() > 2000) std::abort();
  for (const auto& [key, entry] : file.entries()) {
    if (sluice::model::key_of(entry.object) != key || key.name.empty() || entry.line < 1) std::abort();
    // What is told on as JSON must be UTF-8.
    if (sluice::source::ascii(sluice::model::to_string(key)) != sluice::model::to_string(key)) std::abort();
  }
  // Nothing that was known goes away but by being left out of a file that can be read.
  const auto documents = sluice::source::read_documents(text, name.ends_with(".json"));
  if (!documents && (file.entries().size() != before.size() || file.known() != known)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  read("x.yaml", text);
  read("x.json", text);
  return 0;
}
