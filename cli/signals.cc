// SPDX-License-Identifier: Apache-2.0
#include "cli/signals.h"

namespace lcfs::cli {
namespace {

std::atomic<bool> stop_wanted{false};
std::atomic<bool> waiting{false};  // a StopOnSignal that handles signals exists
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

void want_stop(int) { stop_wanted.store(true, std::memory_order_relaxed); }

}  // namespace

StopOnSignal::StopOnSignal(Io const& io) : stop_(io.stop != nullptr ? io.stop : &stop_wanted) {
  if (io.stop != nullptr) return;
  stop_wanted.store(false);
  waiting.store(true);
  struct sigaction action {};
  action.sa_handler = want_stop;
  // Without SA_RESTART a blocked read fails with EINTR.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  saved_[0].number = SIGINT;
  saved_[1].number = SIGTERM;
  saved_[2].number = SIGHUP;
  for (auto& saved : saved_) {
    sigaction(saved.number, nullptr, &saved.action);
    if (saved.action.sa_handler != SIG_IGN)
      sigaction(saved.number, &action, nullptr);  // respects nohup(1)
  }
}

StopOnSignal::~StopOnSignal() {
  if (stop_ != &stop_wanted) return;
  for (auto const& saved : saved_) sigaction(saved.number, &saved.action, nullptr);
  waiting.store(false);
}

std::atomic<bool> const* StopOnSignal::active() { return waiting ? &stop_wanted : nullptr; }

}  // namespace lcfs::cli
