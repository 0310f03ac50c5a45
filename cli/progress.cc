// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/print.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

constexpr std::size_t kBarWidth = 24;
constexpr std::size_t kLineWidth = 79;  // a narrow terminal must not wrap

std::string bar(std::uint64_t done, std::uint64_t total) {
  auto const full = static_cast<std::size_t>(static_cast<double>(std::min(done, total)) /
                                             static_cast<double>(total) * kBarWidth);
  return "[" + std::string(full, '#') + std::string(kBarWidth - full, '.') + "]";
}

}  // namespace

Progress::Progress(Io const& io, Mode mode)
    : io_(io), mode_(mode == Mode::kAuto && !io.err_is_tty ? Mode::kNone : mode) {}

void Progress::bytes(std::uint64_t done, std::uint64_t total, std::string_view what) {
  if (mode_ == Mode::kNone) return;
  std::lock_guard const lock(mutex_);
  if (!due()) return;
  double const seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  auto const rate =
      static_cast<std::uint64_t>(static_cast<double>(done) / std::max(seconds, 0.001));
  auto text = total == 0
                  ? size_text(done)
                  : fmt::format("{} {} of {}", bar(done, total), size_text(done), size_text(total));
  show(fmt::format("{}  {}/s  {}", text, size_text(rate), escape(what)));
}

void Progress::layers(std::string_view layer, std::uint64_t done, std::uint64_t total) {
  if (mode_ == Mode::kNone) return;
  std::lock_guard const lock(mutex_);
  if (due())
    show(fmt::format("{} layer {} of {}  {}", bar(done, std::max<std::uint64_t>(total, 1)), done,
                     total, escape(layer)));
}

void Progress::finish() {
  std::lock_guard const lock(mutex_);
  if (drawn_ != 0) io_.err << '\r' << std::string(drawn_, ' ') << '\r' << std::flush;
  drawn_ = 0;
}

bool Progress::due() {
  auto const now = Clock::now();
  if (now < next_) return false;
  next_ = now + std::chrono::milliseconds(mode_ == Mode::kPlain ? 1000 : 100);
  return true;
}

void Progress::show(std::string const& text) {
  if (mode_ == Mode::kPlain) {
    io_.err << text << std::endl;
    return;
  }
  auto const line = text.substr(0, kLineWidth);
  io_.err << '\r' << line << std::string(drawn_ > line.size() ? drawn_ - line.size() : 0, ' ')
          << std::flush;
  drawn_ = line.size();
}

}  // namespace lcfs::cli
