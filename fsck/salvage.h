// SPDX-License-Identifier: Apache-2.0
// What is left of a damaged tree: the records that can still be reached, and those of leaves below
// lost branches.
//
// A layer's runs list exactly the nodes of its tree, so a leaf in them that the walk did not find
// belongs below a lost branch.  The parent's branches show the leaves that the lost branch shared
// with the parent's tree: those in whose range the layer has no leaf of its own.  That holds only
// if all of its own leaves are found: otherwise the layer may have changed or removed what the
// parent's leaves hold.  So nothing is taken from the parent if a block of the runs is neither a
// sound node nor data of a known file, or if the layer would have more inodes than it had (a leaf
// that it had emptied would return).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "device/device.h"
#include "format/superblock.h"
#include "fsck/node_source.h"
#include "fsck/store_scan.h"
#include "fsck/survey.h"
#include "fsck/tree_walk.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

// A leaf that no branch leads to any more, or is found by one of the parent's.
struct StrayLeaf {
  Key first{}, last{};  // its outermost keys
  NodePtr ptr{};
};

struct Salvage {
  std::vector<StrayLeaf> leaves{};     // by key; they do not overlap, and fill gaps of the walk
  std::vector<std::uint64_t> nodes{};  // first blocks of all nodes found, including damaged ones
  bool complete = true;                // nothing was damaged
  bool doubtful = false;  // the parent's leaves were not taken: the layer may have changed them
};

// parent: the parent's tree and its salvage, if there is a parent.  skeleton: blocks of
// the runs that no tree reaches.
Salvage salvage(Device& device, NodeSource& source, SuperblockInfo const& superblock,
                LayerEntry const& layer, std::span<RunEntry const> runs,
                std::span<Piece const> skeleton, LayerInfo const* parent, Salvage const* of_parent);

// All records of the tree in key order, strays among them.
class RecordStream {
 public:
  RecordStream(NodeSource& source, NodePtr const& root, std::uint64_t owner,
               std::span<StrayLeaf const> strays);
  std::optional<WalkedRecord> next();  // its value is valid until the next call
  [[nodiscard]] bool complete() const { return walk_.complete(); }

 private:
  std::optional<WalkedRecord> next_stray();

  NodeSource& source_;
  TreeWalk walk_;
  std::span<StrayLeaf const> strays_;
  std::size_t leaf_ = 0;     // current stray
  std::uint32_t slot_ = 0;   // in it
  NodeSource::Node node_{};  // its bytes
  std::optional<WalkedRecord> walked_{}, stray_{};
  bool take_walked_ = true, take_stray_ = true;
};

}  // namespace lcfs::fsck
