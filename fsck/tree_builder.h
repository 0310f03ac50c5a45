// SPDX-License-Identifier: Apache-2.0
// Writes a whole tree anew from its records in key order, into free blocks.
//
// With a template (the tree of the layer's parent) leaves whose records are the same, and branches
// whose children are, are not written again but shared, as a clone shares them.  So a repaired
// layer costs what it differs from its parent, however many layers are mended one after the other.
// Memory: 64 bytes per leaf of the tree and of the template.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "device/device.h"
#include "format/node.h"
#include "format/records.h"
#include "fsck/block_map.h"
#include "fsck/node_source.h"

namespace lcfs::fsck {

// Where new nodes go.  They are collected into large writes; nothing is read back before flush().
class NodeWriter {
 public:
  NodeWriter(Device& device, FreeBlocks& free, std::uint64_t generation, StoreId const& store);

  [[nodiscard]] Result<std::uint64_t> allocate();  // kNoSpace
  // Fills in what init() of an editor needs.
  void init(NodeEditor& node, std::uint64_t block, std::uint64_t owner, std::uint8_t level) const {
    node.init(block, owner, generation_, level, store_);
  }
  Result<NodePtr> write(std::span<std::byte> node);  // seals it
  Status flush();                                    // hands all to the device; not durable by it

 private:
  static constexpr std::size_t kBatchNodes = 64;
  Device& device_;
  FreeBlocks& free_;
  std::uint64_t generation_;
  StoreId store_;
  AlignedBuffer batch_;
  std::uint64_t first_ = 0;  // block of the batch's first node
  std::size_t count_ = 0;
};

// The nodes of a tree, level by level, without its leaves' contents.
struct TreeOutline {
  struct Entry {
    Key low{};  // keys below it are >= low
    NodePtr ptr{};
    std::uint64_t nodes = 1;  // of the subtree
  };
  std::vector<std::vector<Entry>> levels{};  // [0]: leaves; the last has one entry, the root
  // children[l][i]: index in levels[l] of the first child of levels[l + 1][i]
  std::vector<std::vector<std::size_t>> children{};
};
// Of a tree all of whose branches can be read.
Result<TreeOutline> outline(NodeSource& source, NodePtr const& root);

struct BuiltTree {
  NodePtr root{};
  std::uint64_t nodes = 0;               // that the tree reaches
  std::vector<std::uint64_t> written{};  // first blocks of the new ones, in the order of writing
};

class TreeBuilder {
 public:
  // shared: the template, null for none; source: to read its leaves.
  TreeBuilder(NodeWriter& out, std::uint64_t owner, NodeSource& source, TreeOutline const* shared);

  Status add(Key const& key, Bytes value);  // in ascending order of keys, no key twice
  Result<BuiltTree> finish();               // no records: an empty pointer

 private:
  using Entry = TreeOutline::Entry;
  Status pack(Key const& key, Bytes value);
  Status end_leaf();
  Status
  leave_template();  // the leaf in hand is not the template's: what was taken for it is packed
  Status end_template();
  Status next_template(Key const& key);
  Result<NodePtr> write_branch(std::span<Entry const> children, std::uint8_t level,
                               std::uint64_t& nodes);
  Result<std::vector<Entry>> build_level(std::vector<Entry> const& below, std::uint8_t level);

  NodeWriter& out_;
  std::uint64_t owner_;
  NodeSource& source_;
  TreeOutline const* shared_;
  std::size_t at_ = 0;  // template leaf in hand; behind the last: none
  bool matching_ =
      false;  // all its records up to `matched_` came by, and nothing else in its range
  std::uint32_t matched_ = 0;
  NodeSource::Node node_{};  // its bytes
  AlignedBuffer leaf_{kNodeSize};
  bool leaf_open_ = false;
  Key leaf_low_{};
  std::vector<Entry> leaves_;
  std::vector<std::uint64_t> written_;
};

}  // namespace lcfs::fsck
