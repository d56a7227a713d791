// SPDX-License-Identifier: Apache-2.0
#include "common/confinement.h"

#include <gmock/gmock.h>

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Confinement, AProfileThatIsEnforcedIsNamedWithTheRemedy) {
  EXPECT_THAT(apparmor_hint("cri-containerd.apparmor.d (enforce)"),
              AllOf(HasSubstr("AppArmor"), HasSubstr("profile cri-containerd.apparmor.d;"),
                    HasSubstr("appArmorProfile.type: Unconfined")));
}

TEST(Confinement, WhatRefusesNothingIsNotNamed) {
  for (const auto* label : {"", "unconfined", "of-the-administrator (complain)"})
    EXPECT_THAT(apparmor_hint(label), IsEmpty()) << label;
}

}  // namespace
}  // namespace sluice
