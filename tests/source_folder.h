// SPDX-License-Identifier: Apache-2.0
// Where the sources are, for tests that read documents and examples. In a file of its own, so that no other
// object depends on the folder and a compiler cache serves every checkout.
#pragma once

namespace sluice {
extern const char* const kSourceFolder;
}
