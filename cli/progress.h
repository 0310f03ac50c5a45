// SPDX-License-Identifier: Apache-2.0
// What goes on, on standard error: a line that is drawn again and again on a terminal, or plain
// lines now and then.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "cli/io.h"

namespace lcfs::cli {

// Functions may be called from any thread.
class Progress {
 public:
  enum class Mode : std::uint8_t {
    kAuto,   // a bar if standard error is a terminal, else nothing
    kPlain,  // a line every second
    kNone,
  };
  Progress(Io const& io, Mode mode);
  ~Progress() { finish(); }
  Progress(Progress const&) = delete;
  Progress& operator=(Progress const&) = delete;

  // `done` of `total` bytes (0: not known), while `what` is worked on.
  void bytes(std::uint64_t done, std::uint64_t total, std::string_view what);
  // `done` of `total` layers; `layer` is next.
  void layers(std::string_view layer, std::uint64_t done, std::uint64_t total);
  // Takes the bar off the terminal.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  bool due();
  void show(std::string const& text);

  Io const& io_;
  Mode mode_;
  std::mutex mutex_;  // all below
  Clock::time_point const start_ = Clock::now();
  Clock::time_point next_ = start_ + std::chrono::milliseconds(200);
  std::size_t drawn_ = 0;  // width of what stands on the terminal
};

}  // namespace lcfs::cli
