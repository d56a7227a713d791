// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "cli/cli.h"

int main(int argc, char** argv) { return sluice::cli::run(argc, argv, std::cout, std::cerr); }
