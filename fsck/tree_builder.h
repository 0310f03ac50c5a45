// SPDX-License-Identifier: Apache-2.0
// Writes a whole tree from its records in key order, into free blocks.
//
// With a template (the tree of the layer's parent), leaves with equal records and branches with
// equal children are shared instead of written, as in a clone.  So a repaired layer costs only its
// differences from its parent, however many layers are repaired.
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
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

// Writes new nodes.  It collects them into large writes; nothing is read back before flush().
class NodeWriter {
 public:
  NodeWriter(Device& device, FreeBlocks& free, std::uint64_t generation, StoreId const& store);

  [[nodiscard]] Result<std::uint64_t> allocate();  // kNoSpace
  // Fills in what init() of an editor needs.
  void init(NodeEditor& node, std::uint64_t block, std::uint64_t owner, std::uint8_t level) const {
    node.init(block, owner, generation_, level, store_);
  }
  Result<NodePtr> write(std::span<std::byte> node);  // seals it
  Status flush();  // writes everything to the device; does not make it durable

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
// Reads the template of a tree; all its branches must be readable.
Result<TreeOutline> outline(NodeSource& source, NodePtr const& root);

struct BuiltTree {
  NodePtr root{};
  std::uint64_t nodes = 0;               // of the tree
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
  std::size_t at_ = 0;  // current template leaf; after the last: none
  // All its records up to `matched_` were added, and nothing else in its range.
  bool matching_ = false;
  std::uint32_t matched_ = 0;
  NodeSource::Node node_{};  // its bytes
  AlignedBuffer leaf_{kNodeSize};
  bool leaf_open_ = false;
  Key leaf_low_{};
  std::vector<Entry> leaves_;
  std::vector<std::uint64_t> written_;
};

}  // namespace lcfs::fsck
