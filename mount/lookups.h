// SPDX-License-Identifier: Apache-2.0
// How often the kernel was told of each node and has not yet forgotten it: a node whose count is 0
// can't be in use. Memory: 16 to 32 bytes for each inode that the kernel has cached.  Thread-safe;
// sharded.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/sync.h"
#include "mount/node_id.h"

namespace lcfs::mount {

class Lookups {
 public:
  // True: it was not known before.
  bool add(NodeId node);
  // True: it is not known any more.  A count above what was added counts as all of it.
  bool drop(NodeId node, std::uint64_t count);
  // Nodes of a layer that are known now, `most` of them at most.
  [[nodiscard]] std::vector<NodeId> in_slot(std::uint32_t slot, std::size_t most) const;
  [[nodiscard]] std::uint64_t size() const;
  [[nodiscard]] std::uint64_t bytes() const;

 private:
  struct Entry {
    NodeId node = 0;  // 0: free
    std::uint64_t count = 0;
  };
  // Open addressing, linear probing; entries behind a removed one move up, so there are no
  // tombstones.
  struct alignas(64) Shard {
    mutable Mutex mu;
    std::vector<Entry> table LCFS_GUARDED_BY(mu);
    std::size_t used LCFS_GUARDED_BY(mu) = 0;
    void resize(std::size_t size) LCFS_REQUIRES(mu);
    [[nodiscard]] std::size_t find(NodeId node) const
        LCFS_REQUIRES(mu);  // its place, or the free one where it belongs
  };
  static std::uint64_t mix(NodeId node);
  Shard& shard(NodeId node) { return shards_[mix(node) >> 58]; }
  std::array<Shard, 64> shards_;
};

}  // namespace lcfs::mount
