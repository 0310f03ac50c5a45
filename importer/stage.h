// SPDX-License-Identifier: Apache-2.0
// A stage of the import pipeline that runs on a thread of its own when there is a core for it, and
// else right where its items come from: what one core wrote is dear for another to read (1.2 GB/s
// of SHA-256 beside 1.8, measured on an AMD EPYC), so a thread only pays where it would have an
// idle core.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <thread>
#include <utility>

#include "importer/queue.h"

namespace lcfs::importer {

// Items are worked on one after the other, in the order in which they were pushed.  One thread
// pushes, closes and waits; cancel() may be called by any.
template <class T>
class Stage {
 public:
  // work(item): false: no more items are wanted; push() says so from then on.
  Stage(std::size_t depth, std::function<bool(T)> work) : work_(std::move(work)), queue_(depth) {}
  ~Stage() {
    cancel();
    wait();
  }
  Stage(Stage const&) = delete;
  Stage& operator=(Stage const&) = delete;

  // here: on this thread, unless the other still has some.  False: cancelled, or no more are
  // wanted.
  bool push(T item, bool here) {
    if (here && in_flight_.load(std::memory_order_acquire) == 0)
      return !ended_.load(std::memory_order_relaxed) && run(std::move(item));
    if (!thread_.joinable()) thread_ = std::thread([this] { run_all(); });
    in_flight_.fetch_add(1, std::memory_order_relaxed);
    return queue_.push(std::move(item));
  }
  // Items that wait are dropped.
  void cancel() {
    ended_.store(true, std::memory_order_relaxed);
    queue_.cancel();
  }
  // No more items come; returns when all that were pushed are done with.
  void wait() {
    queue_.close();
    if (thread_.joinable()) thread_.join();
  }

 private:
  bool run(T item) {
    if (work_(std::move(item))) return true;
    cancel();
    return false;
  }
  void run_all() {
    while (auto item = queue_.pop()) {
      if (!run(*std::move(item))) return;
      in_flight_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::function<bool(T)> const work_;
  BoundedQueue<T> queue_;
  std::atomic<std::size_t> in_flight_{0};  // with the thread
  std::atomic<bool> ended_{false};
  std::thread thread_{};
};

}  // namespace lcfs::importer
