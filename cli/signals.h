// SPDX-License-Identifier: Apache-2.0
// SIGINT, SIGTERM and SIGHUP as a wish to stop.  A command that a server runs gets that wish from
// its client instead.
#pragma once

#include <signal.h>

#include <array>
#include <atomic>

#include "cli/io.h"

namespace lcfs::cli {

// While it lives, the first such signal sets stop(); the second ends the process as usual.  One at
// a time in a process, but any number where io.stop says when to stop: then signals are left alone.
class StopOnSignal {
 public:
  explicit StopOnSignal(Io const& io);
  ~StopOnSignal();
  StopOnSignal(StopOnSignal const&) = delete;
  StopOnSignal& operator=(StopOnSignal const&) = delete;
  [[nodiscard]] std::atomic<bool> const& stop() const { return *stop_; }
  // That of the one that lives and waits for signals; null if none does.
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
