// SPDX-License-Identifier: Apache-2.0
// The comparisons of layers with their parents (layer_delta.h), made ahead of whoever asks for
// them, some at once: none depends on what another one finds. Memory: at most one comparison a
// thread is under way or waits to be taken: the nodes that differ while it is under way, or as long
// as their data is to be checked; then 32 bytes for each stretch of blocks of its layer.
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
  ~DeltasAhead();  // what is under way is finished first
  DeltasAhead(DeltasAhead const&) = delete;
  DeltasAhead& operator=(DeltasAhead const&) = delete;

  // Of order()[index]; each index once, in ascending order.  Null: not surely sound, or there is
  // nothing to compare with.
  std::unique_ptr<LayerDelta> take(std::size_t index);

 private:
  [[nodiscard]] std::unique_ptr<LayerDelta> compare(std::size_t index) const;
  void work();

  LayerContext const& context_;
  Options const& options_;
  std::mutex mutex_;  // all below but the threads
  std::condition_variable changed_;
  std::vector<std::optional<std::unique_ptr<LayerDelta>>>
      results_;            // by index; nothing: not yet made
  std::size_t next_ = 0;   // to be made
  std::size_t taken_ = 0;  // by whoever asks
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace lcfs::fsck
