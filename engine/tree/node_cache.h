// SPDX-License-Identifier: Apache-2.0
// Tree nodes in memory: one bounded cache for all layers, keyed by block number.
//
// A node is in one of three states:
//   dirty   changed by exactly one tree, under that tree's lock; its checksum and those of its
//           children are not set
//   sealed  checksums set; its bytes never change again; not yet on the device
//   clean   as on the device
// Dirty and sealed nodes are pinned; clean ones are evicted, least recently used first, when the
// cache is over its size (I7).
//
// Threads: NodeCache locks its shards itself; device reads happen without any lock.  Node::bytes of
// a dirty node belong to its tree's writer; of any other node they are constant.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "engine/locks/lock_order.h"
#include "engine/types.h"
#include "format/node.h"

namespace lcfs {

struct Node {
  explicit Node(std::uint64_t b) : block(b), bytes(kNodeSize) {}
  std::uint64_t const block;
  bool dirty = false;  // protected by the lock of the tree that made it
  AlignedBuffer bytes;
  [[nodiscard]] NodeReader read() const { return NodeReader(bytes.data()); }
  [[nodiscard]] NodeEditor edit() { return NodeEditor(bytes.data()); }
};
using NodeRef = std::shared_ptr<Node>;

class NodeCache {
 public:
  NodeCache(Device& device, std::uint64_t total_blocks, StoreId store,
            std::uint64_t capacity_bytes);

  // The node `ptr` points to: checked against everything the pointer and its parent say.  level: of
  // the node; or, with exact_level false, an upper bound.
  Result<NodeRef> get(NodePtr const& ptr, std::uint8_t level, bool exact_level);

  // Loads nodes of one level that get() is about to be asked for, as many as fit; neighbours on the
  // device with one read.  Errors are left to get() to report.
  void read_ahead(std::span<NodePtr const> nodes, std::uint8_t level);

  // A new node, dirty and pinned.  The caller has allocated its blocks.
  NodeRef create(std::uint64_t block);
  // The block no longer holds this node.
  void forget(std::uint64_t block);
  // A sealed node is on the device now: it may be evicted.
  void unpin(std::uint64_t block);

  [[nodiscard]] StoreId const& store() const { return store_; }

  // The store has so many blocks now: pointers up to there are valid.
  void set_total(std::uint64_t total_blocks) {
    total_blocks_.store(total_blocks, std::memory_order_relaxed);
  }
  void set_capacity(std::uint64_t bytes);  // evicts at once what is over it
  void drop_clean();

  struct Stats {
    std::uint64_t hits = 0, misses = 0, nodes = 0, limit = 0 /* bytes */,
                  failures = 0 /* checks failed */;
  };
  [[nodiscard]] Stats stats() const;

 private:
  struct Entry {
    NodeRef node;
    std::list<std::uint64_t>::iterator lru;  // valid unless pinned
    bool pinned = false;
  };
  struct Shard {
    mutable Mutex mu LCFS_LEVEL(nodes);
    std::unordered_map<std::uint64_t, Entry> entries LCFS_GUARDED_BY(mu);
    std::list<std::uint64_t> lru LCFS_GUARDED_BY(mu);  // most recent first
    std::uint64_t hits LCFS_GUARDED_BY(mu) = 0, misses LCFS_GUARDED_BY(mu) = 0;
  };
  Shard& shard(std::uint64_t block) { return shards_[(block / kNodeBlocks) % shards_.size()]; }
  void evict(Shard& s) LCFS_REQUIRES(s.mu);
  // A node as it was read.
  Status check(Node const& node, NodePtr const& ptr, std::uint8_t level, bool exact_level) const;
  void keep(NodeRef const& node);

  Device& device_;
  std::atomic<std::uint64_t> total_blocks_;
  StoreId const store_;
  std::atomic<std::size_t> per_shard_;
  std::atomic<std::uint64_t> failures_{0};
  std::array<Shard, 16> shards_;
};

}  // namespace lcfs
