// SPDX-License-Identifier: Apache-2.0
// Everything that a run of the program sees of the world: its input, outputs and environment. Tests
// supply their own.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <ostream>
#include <string>

namespace lcfs::cli {

struct Io {
  std::ostream& out;        // results only
  std::ostream& err;        // messages
  bool err_is_tty = false;  // whether a progress bar can be drawn
  std::function<std::optional<std::string>(char const* name)> env{};  // none: an empty environment
  int in_fd = 0;                                                      // standard input
  // The descriptors behind `out` and `err`, which a server gets that runs the command.  -1: none;
  // the command is then never passed to a server.
  int out_fd = -1, err_fd = -1;
  // Becomes true when the run must stop; null: signals stop it.
  std::atomic<bool> const* stop = nullptr;
};

// Those of this process.
Io process_io();

}  // namespace lcfs::cli
