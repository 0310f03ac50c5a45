// SPDX-License-Identifier: Apache-2.0
// Nodes for fsck: read from the device, checked in full each time they are read, kept in a small cache.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

#include "device/device.h"
#include "format/node.h"
#include "format/superblock.h"

namespace lcfs::fsck {

class NodeSource {
 public:
  // Bounds and identity from a parsed superblock.  `cache_bytes` bounds the memory of nodes not in use.
  NodeSource(Device& device, SuperblockInfo const& superblock, std::uint64_t cache_bytes, bool skip_checksum);

  using Node = std::shared_ptr<AlignedBuffer const>;

  // The node `ptr` points to, checked.  level: what it must be; kAnyLevel for a root.  Error::offset is a byte of the
  // device.  kIo if the device refuses.
  static constexpr unsigned kAnyLevel = kMaxLevel + 1;
  Result<Node> get(NodePtr const& ptr, unsigned level);

  [[nodiscard]] std::uint64_t total_blocks() const { return total_blocks_; }
  [[nodiscard]] std::uint64_t nodes_read() const { return nodes_read_; }

 private:
  Result<Node> read(NodePtr const& ptr, NodeExpectation const& expect);

  Device& device_;
  std::uint64_t total_blocks_, generation_;
  std::array<std::uint8_t, 8> store_{};
  bool skip_checksum_;
  std::size_t capacity_;  // nodes
  std::uint64_t nodes_read_ = 0;
  struct Entry {
    std::uint64_t block;
    Node node;
  };
  std::list<Entry> order_;  // most recently used first
  std::unordered_map<std::uint64_t, std::list<Entry>::iterator> by_block_;
};

}  // namespace lcfs::fsck
