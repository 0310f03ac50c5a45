// SPDX-License-Identifier: Apache-2.0
// What is left of a damaged tree: the records that can still be reached, and those of leaves that a
// lost branch led to.
//
// A layer's runs list exactly the nodes that its tree reaches, so a leaf in them that the walk did
// not come by belongs below a lost branch.  Leaves that the lost branch shared with the parent's
// tree are told by the parent's branches: those in whose range the layer has no leaf of its own.
// That holds only if all of its own leaves are there: else the parent's would be what the layer had
// changed or removed.  So nothing is taken from the parent if a block of the runs is neither a
// sound node nor data of a file that was found, or if there would be more inodes than the layer had
// (a leaf that it had emptied came back).
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

namespace lcfs::fsck {

// A leaf that no branch leads to any more, or is found by one of the parent's.
struct StrayLeaf {
  Key first{}, last{};  // its outermost keys
  NodePtr ptr{};
};

struct Salvage {
  std::vector<StrayLeaf>
      leaves{};  // by key; they do not overlap, and lie in what the walk leaves out
  std::vector<std::uint64_t> nodes{};  // first blocks of all nodes that were met, damaged ones too
  bool complete = true;                // nothing was damaged
  bool doubtful = false;  // the parent's leaves were not taken: the layer may have changed them
};

// parent: the parent's tree and what was salvaged of that, if there is one.  skeleton: blocks of
// the runs that no tree reaches.
Salvage salvage(Device& device, NodeSource& source, SuperblockInfo const& superblock,
                LayerEntry const& layer, std::span<RunEntry const> runs,
                std::span<Piece const> skeleton, LayerInfo const* parent, Salvage const* of_parent);

// All records of the tree in key order, strays among them.
class RecordStream {
 public:
  RecordStream(NodeSource& source, NodePtr const& root, std::uint64_t owner,
               std::span<StrayLeaf const> strays);
  std::optional<Record> next();  // its value lives until the next call
  [[nodiscard]] bool complete() const { return walk_.complete(); }

 private:
  std::optional<Record> next_stray();

  NodeSource& source_;
  TreeWalk walk_;
  std::span<StrayLeaf const> strays_;
  std::size_t leaf_ = 0;     // stray in hand
  std::uint32_t slot_ = 0;   // in it
  NodeSource::Node node_{};  // its bytes
  std::optional<Record> walked_{}, stray_{};
  bool take_walked_ = true, take_stray_ = true;
};

}  // namespace lcfs::fsck
