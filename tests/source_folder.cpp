// SPDX-License-Identifier: Apache-2.0
#include "tests/source_folder.h"

namespace sluice {
const char* const kSourceFolder = SLUICE_SOURCE_DIR;
}
