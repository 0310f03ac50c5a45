// SPDX-License-Identifier: Apache-2.0
// A stage of the import pipeline.  It runs on its own thread if a core is free, and otherwise on
// the pushing thread: reading what another core wrote is slow (SHA-256 at 1.2 GB/s instead of 1.8
// on an AMD EPYC), so a thread only pays off on an idle core.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <thread>
#include <utility>

#include "base/bounded_queue.h"

namespace lcfs::importer {

// Items are processed one at a time, in the order of push().  One thread pushes and waits; cancel()
// may be called by any thread.
template <class T>
class Stage {
 public:
  // work(item): false ends the stage; push() returns false from then on.
  Stage(std::size_t depth, std::function<bool(T)> work) : work_(std::move(work)), queue_(depth) {}
  ~Stage() {
    cancel();
    wait();
  }
  Stage(Stage const&) = delete;
  Stage& operator=(Stage const&) = delete;

  // here: process it on this thread, unless items are still queued.  False: cancelled, or the
  // stage has ended.
  bool push(T item, bool here) {
    if (here && in_flight_.load(std::memory_order_acquire) == 0)
      return !ended_.load(std::memory_order_relaxed) && run(std::move(item));
    if (!thread_.joinable()) thread_ = std::thread([this] { run_all(); });
    in_flight_.fetch_add(1, std::memory_order_relaxed);
    return queue_.push(std::move(item));
  }
  // Drops the queued items.
  void cancel() {
    ended_.store(true, std::memory_order_relaxed);
    queue_.cancel();
  }
  // No more items will come; returns when all pushed items are processed.
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
