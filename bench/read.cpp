// SPDX-License-Identifier: Apache-2.0
// What an event of the API costs that has one large NetworkPolicy, from its text to the model's object.
//   sluice_bench_read [BLOCKS [ROUNDS]]
// CPU time of the thread in milliseconds, so that a machine that is not idle changes little.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "daemon/model/parse.h"
#include "daemon/source/kube/decode.h"

namespace sluice::bench {
namespace {

double now_ms() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

std::string event(unsigned blocks) {
  std::string text =
      R"({"type":"MODIFIED","object":{"metadata":{"name":"large","namespace":"evil","uid":"u","resourceVersion":"1"},)"
      R"("spec":{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"from":[)";
  for (unsigned i = 0; i < blocks; ++i)
    text += fmt::format(R"({}{{"ipBlock":{{"cidr":"20.{}.{}.{}/32"}}}})", i == 0 ? "" : ",", i >> 16 & 255,
                        i >> 8 & 255, i & 255);
  return text + "]}]}}}";
}

void print(const char* what, std::vector<double> took) {
  std::ranges::sort(took);
  fmt::print("{:<8} {:7.2f} {:7.2f} {:7.2f}\n", what, took.front(), took[took.size() / 2], took.back());
}

int run(unsigned blocks, unsigned rounds) {
  const auto text = event(blocks);
  std::vector<double> decode, object, end, total;
  for (unsigned round = 0; round < rounds; ++round) {
    const auto begin = now_ms();
    std::optional<Result<model::Tree>> tree(source::decode_object(text));
    const auto decoded = now_ms();
    const auto parsed =
        *tree ? model::parse_object(*(*tree)->root().find("object"), model::Kind::kNetworkPolicy)
              : tl::unexpected(tree->error());
    const auto made = now_ms();
    tree.reset();
    const auto ended = now_ms();
    if (!parsed) {
      fmt::print(stderr, "sluice_bench_read: {}\n", parsed.error().message);
      return 1;
    }
    decode.push_back(decoded - begin);
    object.push_back(made - decoded);
    end.push_back(ended - made);
    total.push_back(ended - begin);
  }
  fmt::print("{} blocks, {} bytes: ms of CPU time\n{:<8} {:>7} {:>7} {:>7}\n", blocks, text.size(), "", "min",
             "median", "max");
  print("decode", decode);
  print("object", object);
  print("free", end);
  print("all", total);
  return 0;
}

}  // namespace
}  // namespace sluice::bench

int main(int count, char** arguments) try {
  const auto number = [&](int index, unsigned otherwise) {
    return count > index ? static_cast<unsigned>(std::stoul(arguments[index])) : otherwise;
  };
  return sluice::bench::run(number(1, 29'000), std::max(number(2, 50), 1u));
} catch (const std::exception& error) {
  fmt::print(stderr, "sluice_bench_read: {}\n", error.what());
  return 1;
}
