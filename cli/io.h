// SPDX-License-Identifier: Apache-2.0
// All that a run of the program has of the world: what it reads, where it writes, its environment.
// Tests make their own.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <ostream>
#include <string>

namespace lcfs::cli {

struct Io {
  std::ostream& out;        // data, and nothing else
  std::ostream& err;        // words about it
  bool err_is_tty = false;  // then a progress bar may be drawn
  std::function<std::optional<std::string>(char const* name)> env{};  // none: an empty environment
  int in_fd = 0;                                                      // standard input
  // The descriptors behind `out` and `err`: what a server gets that runs the command for us.  -1:
  // there are none, and no server is asked.
  int out_fd = -1, err_fd = -1;
  std::atomic<bool> const* stop =
      nullptr;  // turns true when the run shall end; null: signals say so
};

// The process' own.
Io process_io();

}  // namespace lcfs::cli
