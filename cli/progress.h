// SPDX-License-Identifier: Apache-2.0
// Progress on standard error: a bar that is redrawn on a terminal, or a plain line every second.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "cli/io.h"

namespace lcfs::cli {

// Threads: any.
class Progress {
 public:
  enum class Mode : std::uint8_t {
    kAuto,   // a bar if standard error is a terminal; otherwise nothing
    kPlain,  // a line every second
    kNone,
  };
  Progress(Io const& io, Mode mode);
  ~Progress() { finish(); }
  Progress(Progress const&) = delete;
  Progress& operator=(Progress const&) = delete;

  // `done` of `total` bytes (0: unknown) are processed; `what` is in progress.
  void bytes(std::uint64_t done, std::uint64_t total, std::string_view what);
  // `done` of `total` layers are processed; `layer` is next.
  void layers(std::string_view layer, std::uint64_t done, std::uint64_t total);
  // Erases the bar.
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
  std::size_t drawn_ = 0;  // width of the line on the terminal
};

}  // namespace lcfs::cli
