// SPDX-License-Identifier: Apache-2.0
#include "cli/run.h"

int main(int argc, char** argv) { return lcfs::cli::run({argv, argv + argc}, lcfs::cli::process_io()); }
