// SPDX-License-Identifier: Apache-2.0
// The body of a list or a watch as it comes from the API server: cut into lines in pieces of any size, each
// decoded and read. How it is cut changes nothing.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "daemon/model/parse.h"
#include "daemon/source/kube/decode.h"
#include "daemon/source/kube/lines.h"

namespace sluice::source {
namespace {

constexpr std::size_t kMost = 4096;

struct Read {
  std::vector<std::string> lines;
  Lines::End end = Lines::End::kNone;
};

Read read(std::string_view text, std::size_t piece) {
  Read read;
  Lines lines(kMost);
  while (!text.empty() && read.end == Lines::End::kNone) {
    read.end = lines.feed(text.substr(0, piece), [&](std::string_view line) {
      read.lines.emplace_back(line);
      return true;
    });
    text.remove_prefix(std::min(piece, text.size()));
  }
  return read;
}

void understand(const model::Value& object) {
  (void)status_message(object);
  (void)text_at(object, "metadata", "resourceVersion");
  for (std::size_t i = 0; i < model::kKinds; ++i) {
    const auto kind = static_cast<model::Kind>(i);
    const auto parsed = model::parse_object(object, kind);
    // A DELETED event, and an object that cannot be used, are known by this key.
    if (parsed && model::key_of(parsed->object) != key_of(object, kind)) std::abort();
  }
}

}  // namespace
}  // namespace sluice::source

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice::source;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto whole = read(text, std::max<std::size_t>(size, 1));
  const auto pieces = read(text, size == 0 ? 1 : 1 + data[0] % 16);
  if (whole.lines != pieces.lines && whole.end == pieces.end) std::abort();
  for (const auto& line : whole.lines) {
    const auto tree = decode_object(line);
    if (!tree) continue;
    understand(tree->root());
    if (const auto* object = tree->root().find("object")) understand(*object);
    if (const auto* items = tree->root().find("items"); items != nullptr && items->is_list())
      for (const auto& item : items->items()) understand(item);
  }
  return 0;
}
