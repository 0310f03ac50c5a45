// SPDX-License-Identifier: Apache-2.0
// The lookup count of each node: how often it was reported to the kernel and not yet forgotten.  A
// node whose count is 0 is not in use.  Memory: 16 to 32 bytes for each inode that the kernel
// caches. Threads: any; sharded.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/sync.h"
#include "mount/node_id.h"

namespace lcfs::mount {

class Lookups {
 public:
  // Adds one lookup.  True: the node was unknown before.
  bool add(NodeId node);
  // Removes `count` lookups, at most all.  True: the node is now unknown.
  bool drop(NodeId node, std::uint64_t count);
  // Up to `most` known nodes of a layer.
  [[nodiscard]] std::vector<NodeId> in_slot(std::uint32_t slot, std::size_t most) const;
  [[nodiscard]] std::uint64_t size() const;
  [[nodiscard]] std::uint64_t bytes() const;

 private:
  struct Entry {
    NodeId node = 0;  // 0: free
    std::uint64_t count = 0;
  };
  // Open addressing with linear probing.  Entries after a removed one move up, so there are no
  // tombstones.
  struct alignas(64) Shard {
    mutable Mutex mu;
    std::vector<Entry> table LCFS_GUARDED_BY(mu);
    std::size_t used LCFS_GUARDED_BY(mu) = 0;
    void resize(std::size_t size) LCFS_REQUIRES(mu);
    [[nodiscard]] std::size_t find(NodeId node) const
        LCFS_REQUIRES(mu);  // its index, or that of the free entry where it belongs
  };
  static std::uint64_t mix(NodeId node);
  Shard& shard(NodeId node) { return shards_[mix(node) >> 58]; }
  std::array<Shard, 64> shards_;
};

}  // namespace lcfs::mount
