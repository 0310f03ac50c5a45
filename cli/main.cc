// SPDX-License-Identifier: Apache-2.0
#include "cli/out_of_memory.h"
#include "cli/run.h"

int main(int argc, char** argv) {
  lcfs::cli::end_when_out_of_memory(argc, argv);
  return lcfs::cli::run({argv, argv + argc}, lcfs::cli::process_io());
}
