// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "cli/render.h"

namespace sluice::cli {
namespace {

TEST(CliServices, ShowsWhatIsRejected) {
  const auto answer = nlohmann::json::parse(
      R"({"synced": true, "applied": true, "services": [], "rejected": ["Service shop/web: external IP refused"]})");
  EXPECT_THAT(render_services(answer),
              ::testing::HasSubstr("Rejected: Service shop/web: external IP refused\n"));
}

}  // namespace
}  // namespace sluice::cli
