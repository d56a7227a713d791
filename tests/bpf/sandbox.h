// SPDX-License-Identifier: Apache-2.0
// What the tests of one process share: a network namespace with interfaces, a bpffs, and the modules, which a
// verifier needs time for.
#pragma once

#include <string>
#include <vector>

#include "tests/bpf/world.h"

namespace sluice::bpftest {

void need(bool done, const char* what);  // throws std::runtime_error, with errno's text

[[nodiscard]] const std::string& pins();  // the folder where maps are pinned
[[nodiscard]] Object open_object(const void* (*elf_bytes)(std::size_t*));
void size_conntrack(const bpf_object* object);  // as large as it is in these tests

[[nodiscard]] const std::vector<Object>& modules();
// Loads the modules for the process's first test. For a later one it makes their maps as they were then.
void fresh_modules();

}  // namespace sluice::bpftest
