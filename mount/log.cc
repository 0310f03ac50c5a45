// SPDX-License-Identifier: Apache-2.0
#include "mount/log.h"

#include <fmt/format.h>
#include <syslog.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <utility>

#include "base/sync.h"

namespace lcfs::mount {
namespace {

constexpr unsigned kMostPerSecond = 50;

std::atomic<bool> to_syslog{false};

struct Limiter {
  Mutex mu;
  std::chrono::steady_clock::time_point second LCFS_GUARDED_BY(mu){};
  unsigned said LCFS_GUARDED_BY(mu) = 0, left_out LCFS_GUARDED_BY(mu) = 0;
};

void say(Level level, std::string_view line) {
  if (to_syslog) {
    syslog(static_cast<int>(level), "%.*s", static_cast<int>(line.size()), line.data());
  } else {
    fmt::print(stderr, "lcfs: {}\n", line);
  }
}

}  // namespace

void log_to_syslog() {
  openlog("lcfs", LOG_PID, LOG_DAEMON);
  to_syslog = true;
}

void log(Level level, std::string_view line) {
  static Limiter limiter;
  unsigned missing = 0;
  {
    Lock lock(limiter.mu);
    auto const now = std::chrono::steady_clock::now();
    if (now - limiter.second > std::chrono::seconds(1)) {
      limiter.second = now;
      limiter.said = 0;
      missing = std::exchange(limiter.left_out, 0);
    }
    if (++limiter.said > kMostPerSecond) {
      ++limiter.left_out;
      return;
    }
  }
  if (missing != 0) say(Level::kWarning, fmt::format("{} messages were suppressed", missing));
  say(level, line);
}

}  // namespace lcfs::mount
