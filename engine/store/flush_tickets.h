// SPDX-License-Identifier: Apache-2.0
// Data writes outside checkpoints that are under way.  A checkpoint waits for those that began
// before it took over: its trees may reference what they write.
//
// Threads: any function from any thread; mu_ guards everything.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <set>

#include "engine/locks/lock_order.h"

namespace lcfs {

class FlushTickets {
 public:
  // A write begins.  Returns its ticket; tickets only grow.
  std::uint64_t begin() LCFS_EXCLUDES(mu_) {
    Lock lock(mu_);
    under_way_.insert(++last_);
    return last_;
  }
  // It has ended, well or not.
  void end(std::uint64_t ticket) LCFS_EXCLUDES(mu_) {
    Lock lock(mu_);
    under_way_.erase(ticket);
    cv_.notify_all();
  }
  // The newest ticket so far; 0: none.
  [[nodiscard]] std::uint64_t last() const LCFS_EXCLUDES(mu_) {
    Lock lock(mu_);
    return last_;
  }
  // Is a write with ticket `last` or an older one under way?
  [[nodiscard]] bool any(std::uint64_t last) const LCFS_EXCLUDES(mu_) {
    Lock lock(mu_);
    return any_locked(last);
  }
  // Until there is none.
  void wait(std::uint64_t last) LCFS_EXCLUDES(mu_) {
    Lock lock(mu_);
    while (any_locked(last)) lock.wait(cv_);
  }

 private:
  [[nodiscard]] bool any_locked(std::uint64_t last) const LCFS_REQUIRES(mu_) {
    return !under_way_.empty() && *under_way_.begin() <= last;
  }

  mutable Mutex mu_ LCFS_LEVEL(flushes);
  std::condition_variable cv_;
  std::set<std::uint64_t> under_way_ LCFS_GUARDED_BY(mu_);
  std::uint64_t last_ LCFS_GUARDED_BY(mu_) = 0;
};

}  // namespace lcfs
