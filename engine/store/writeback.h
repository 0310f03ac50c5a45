// SPDX-License-Identifier: Apache-2.0
// Writing what is in memory to its place on the device.  Nothing here flushes.
//
// Threads: any function from any thread, without locks.
#pragma once

#include <vector>

#include "device/device.h"
#include "engine/tree/node_cache.h"

namespace lcfs {

struct IoBatch;  // engine/layer/layer_impl.h

class Writeback {
 public:
  // Both must outlive this.
  Writeback(Device& device, NodeCache& cache) : device_(device), cache_(cache) {}

  // Sealed nodes, in any order.  When they are written the cache may evict them.
  Status nodes(std::vector<NodeRef> nodes) const;
  // Data pages handed over by a layer; they stay as they are until LayerImpl::written().
  Status data(IoBatch const& batch) const;

 private:
  Device& device_;
  NodeCache& cache_;
};

}  // namespace lcfs
