// SPDX-License-Identifier: Apache-2.0
// Large writes in the background, a bounded number of buffers at a time.
//
// Threads: any; everything locks itself.  A Sink must outlive its writes: wait() for them.
#pragma once

#include <condition_variable>
#include <deque>
#include <optional>
#include <thread>
#include <vector>

#include "base/sync.h"
#include "device/device.h"
#include "engine/types.h"

namespace lcfs {

class WriteQueue {
 public:
  explicit WriteQueue(Device& device) : device_(device) {}
  ~WriteQueue();

  // Collects the outcome of one owner's writes.
  struct Sink {
    std::uint64_t pending = 0;     // protected by WriteQueue::mu_
    std::optional<Error> error{};  // likewise; the first one
  };

  static constexpr std::size_t kBuffer = 1u << 20;  // bytes
  static constexpr std::size_t kBuffers = 10;       // in all
  static constexpr unsigned kThreads = 2;

  // Waits for a free buffer.
  AlignedBuffer take_buffer() LCFS_EXCLUDES(mu_);
  void return_buffer(AlignedBuffer buffer) LCFS_EXCLUDES(mu_);
  // Writes the first `size` bytes (whole blocks) at `offset`, then returns the buffer.
  void submit(std::uint64_t offset, AlignedBuffer buffer, std::size_t size, Sink& sink)
      LCFS_EXCLUDES(mu_);
  // Waits until no write of `sink` is under way.  Returns its first error.
  Status wait(Sink& sink) LCFS_EXCLUDES(mu_);
  // The first error so far, without waiting.
  Status check(Sink& sink) LCFS_EXCLUDES(mu_);

 private:
  struct Job {
    std::uint64_t offset = 0;
    AlignedBuffer buffer{};
    std::size_t size = 0;
    Sink* sink = nullptr;
  };
  void run();

  Device& device_;
  Mutex mu_;
  std::condition_variable work_cv_, free_cv_, done_cv_;
  std::deque<Job> jobs_ LCFS_GUARDED_BY(mu_);
  std::vector<AlignedBuffer> free_ LCFS_GUARDED_BY(mu_);
  std::size_t made_ LCFS_GUARDED_BY(mu_) = 0;
  bool stop_ LCFS_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
