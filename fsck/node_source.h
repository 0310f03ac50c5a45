// SPDX-License-Identifier: Apache-2.0
// Nodes for fsck: read from the device, fully checked at every read, kept in a small cache.
// ahead() announces the next nodes: they are read in the order of the device, adjacent ones
// together, several reads at once, and checked by the reading threads.
// Threads: any function from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "format/node.h"
#include "format/superblock.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

class NodeSource {
 public:
  // Bounds and identity from a parsed superblock.  `cache_bytes` bounds the memory of nodes not in
  // use.
  NodeSource(Device& device, SuperblockInfo const& superblock, std::uint64_t cache_bytes,
             bool skip_checksum);

  using Node = std::shared_ptr<AlignedBuffer const>;

  // The checked node that `ptr` points to.  level: the expected one; kAnyLevel for a root.
  // Error::offset is relative to the device.  kIo if the read fails.
  static constexpr unsigned kAnyLevel = kMaxLevel + 1;
  Result<Node> get(NodePtr const& ptr, unsigned level);

  // Announces that get() will be called for these nodes of one level, in this order.  Reads the
  // first ones into the cache, at most what half of it holds, and returns how many, for the next
  // call.  Ignores bad nodes: get() reports them.
  std::size_t ahead(std::span<NodePtr const> ptrs, unsigned level);

  [[nodiscard]] std::uint64_t total_blocks() const { return total_blocks_; }
  [[nodiscard]] std::uint64_t nodes_read() const {
    std::lock_guard const lock(mutex_);
    return nodes_read_;
  }

 private:
  static constexpr std::uint64_t kReadNodes = 32;  // of one read: 512 KiB
  // Reading this many unneeded ones is cheaper than another read.
  static constexpr std::uint64_t kGapNodes = 2;
  static constexpr std::size_t kReaders = 4;  // reads at once; they mostly wait
  struct Read {
    std::uint64_t block = 0, end = 0;  // [block, end)
    std::size_t from = 0, to = 0;      // of the nodes wanted
  };
  [[nodiscard]] NodeExpectation expectation(NodePtr const& ptr, unsigned level) const;
  [[nodiscard]] bool inside(std::uint64_t block) const {
    return block >= kReservedBlocks && block <= total_blocks_ - kNodeBlocks;
  }
  Result<Node> read(NodePtr const& ptr, NodeExpectation const& expect);
  void read_many(std::span<Read const> reads, std::span<NodePtr const> wanted, unsigned level,
                 std::span<Node> into);
  void keep(std::uint64_t block, Node node);  // one that was read; under the mutex

  Device& device_;
  std::uint64_t total_blocks_, generation_;
  StoreId store_{};
  bool skip_checksum_;
  std::size_t capacity_;      // nodes
  mutable std::mutex mutex_;  // all below; not held while the device is read
  std::uint64_t nodes_read_ = 0;
  struct Entry {
    std::uint64_t block;
    Node node;
  };
  std::list<Entry> order_;  // most recently used first
  std::unordered_map<std::uint64_t, std::list<Entry>::iterator> by_block_;
};

}  // namespace lcfs::fsck
