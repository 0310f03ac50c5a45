// SPDX-License-Identifier: Apache-2.0
// A bounded first-in first-out queue between two threads of the import pipeline.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "base/sync.h"

namespace lcfs {

template <class T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t depth) : depth_(depth) {}

  // Waits while the queue is full.  False: cancelled, `item` is dropped.
  bool push(T item) {
    {
      Lock lock(mu_);
      while (!cancelled_ && items_.size() >= depth_) lock.wait(room_);
      if (cancelled_) return false;
      items_.push_back(std::move(item));
    }
    filled_.notify_one();
    return true;
  }

  // Waits while the queue is empty.  Nothing: closed and all taken, or cancelled.
  std::optional<T> pop() {
    std::optional<T> item;
    {
      Lock lock(mu_);
      while (!cancelled_ && !closed_ && items_.empty()) lock.wait(filled_);
      if (cancelled_ || items_.empty()) return std::nullopt;
      item.emplace(std::move(items_.front()));
      items_.pop_front();
    }
    room_.notify_one();
    return item;
  }

  // No more items will come.
  void close() {
    Lock const lock(mu_);
    closed_ = true;
    filled_.notify_all();
  }

  // Wakes all waiting threads and drops the items in the queue.
  void cancel() {
    std::deque<T> dropped;
    Lock const lock(mu_);
    cancelled_ = true;
    dropped.swap(items_);
    filled_.notify_all();
    room_.notify_all();
  }

 private:
  std::size_t const depth_;
  Mutex mu_;
  std::condition_variable room_, filled_;
  std::deque<T> items_ LCFS_GUARDED_BY(mu_);
  bool closed_ LCFS_GUARDED_BY(mu_) = false;
  bool cancelled_ LCFS_GUARDED_BY(mu_) = false;
};

}  // namespace lcfs
