// SPDX-License-Identifier: Apache-2.0
// Compares layers with their parents (layer_delta.h) ahead of the caller, several at once, because
// no comparison depends on the result of another.  Memory: at most one comparison per thread runs
// or waits for take().  Each holds the differing nodes while it runs, or until their data is
// checked; then 32 bytes for each stretch of blocks of its layer.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "fsck/check.h"
#include "fsck/layer_check.h"
#include "fsck/layer_delta.h"

namespace lcfs::fsck {

class DeltasAhead {
 public:
  // All that `context` refers to outlives this.  Compares the layers of the scan's order.
  DeltasAhead(LayerContext const& context, Options const& options);
  ~DeltasAhead();  // finishes the running comparisons first
  DeltasAhead(DeltasAhead const&) = delete;
  DeltasAhead& operator=(DeltasAhead const&) = delete;

  // Of order()[index]; each index once, in ascending order.  Null: not certainly sound, or the
  // layer has no parent.
  std::unique_ptr<LayerDelta> take(std::size_t index);

 private:
  [[nodiscard]] std::unique_ptr<LayerDelta> compare(std::size_t index) const;
  void work();

  LayerContext const& context_;
  Options const& options_;
  std::mutex mutex_;  // all below but the threads
  std::condition_variable changed_;
  // By index; nothing: not yet made.
  std::vector<std::optional<std::unique_ptr<LayerDelta>>> results_;
  std::size_t next_ = 0;   // next to start
  std::size_t taken_ = 0;  // by take()
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace lcfs::fsck
