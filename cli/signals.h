// SPDX-License-Identifier: Apache-2.0
// SIGINT, SIGTERM and SIGHUP as requests to stop.  A command that a server runs receives the
// request from its client instead.
#pragma once

#include <signal.h>

#include <array>
#include <atomic>

#include "cli/io.h"

namespace lcfs::cli {

// While it exists, the first such signal sets stop() and the second one ends the process as usual.
// At most one can exist in a process, unless io.stop is set: then stop() is *io.stop, and signals
// are left alone.
class StopOnSignal {
 public:
  explicit StopOnSignal(Io const& io);
  ~StopOnSignal();
  StopOnSignal(StopOnSignal const&) = delete;
  StopOnSignal& operator=(StopOnSignal const&) = delete;
  [[nodiscard]] std::atomic<bool> const& stop() const { return *stop_; }
  // stop() of the one that handles signals; null if there is none.
  static std::atomic<bool> const* active();

 private:
  struct Saved {
    int number = 0;
    struct sigaction action {};
  };
  std::atomic<bool> const* stop_;
  std::array<Saved, 3> saved_{};
};

}  // namespace lcfs::cli
