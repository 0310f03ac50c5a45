// SPDX-License-Identifier: Apache-2.0
// SIGINT, SIGTERM and SIGHUP as a wish to stop.
#pragma once

#include <signal.h>

#include <array>
#include <atomic>

namespace lcfs::cli {

// While it lives, the first such signal sets stop(); the second ends the process as usual.  One at a time.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(StopOnSignal const&) = delete;
  StopOnSignal& operator=(StopOnSignal const&) = delete;
  [[nodiscard]] std::atomic<bool>& stop() const;

 private:
  struct Saved {
    int number = 0;
    struct sigaction action {};
  };
  std::array<Saved, 3> saved_{};
};

}  // namespace lcfs::cli
