// SPDX-License-Identifier: Apache-2.0
// Store trees read from the device, node by node and without a cache: what uses which blocks when a
// store is opened.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "engine/space.h"
#include "engine/types.h"

namespace lcfs {

// Where a tree was: what superblocks and kept checkpoints have in common.
struct StoreRoot {
  NodePtr root{};
  std::uint64_t generation = 0;
  std::uint64_t store_tree_blocks = 0, layer_blocks = 0;
};

// What one store tree says of space.  Nodes and runs stand in the order of the walk, so those below
// one node are neighbours.
struct TreeWalk {
  struct Seen {
    std::uint64_t generation = 0;
    std::size_t node = 0, nodes_end = 0, run = 0,
                runs_end = 0;  // what is below it, itself included
  };
  std::vector<Extent> nodes{};  // of the store tree
  std::vector<Extent> runs{};   // of all layers
  std::vector<LayerId> dying{};
  std::vector<KeptCheckpoint> kept{};              // by generation
  std::unordered_map<std::uint64_t, Seen> seen{};  // by node block
  // Subtrees that `skip` has too were left out: where they stand there.
  std::vector<Seen> shared{};
};

// Nodes that `skip` has seen are left out with all below them.  kCorrupt, kIo.
Status walk_store_tree(Device& device, SuperblockInfo const& super, NodePtr const& root,
                       TreeWalk const* skip, TreeWalk& out);

// Blocks of the current tree and of kept ones, told apart.
struct Usage {
  TreeWalk current{};
  std::vector<Extent> used{};          // by the current tree; sorted, disjoint
  std::vector<KeptCheckpoint> kept{};  // that can be read; by generation
  std::vector<KeptCheckpoint>
      lost{};  // that can't: they, and all that are older, can't be kept any longer
  std::vector<Aged> history{};  // used by kept trees only, with the newest that does
  std::vector<Aged> later{};    // used, but not by the newest kept tree; with the newest kept one
                                // that does, 0: none
};

// I5 is checked for `root`.  `kept`: nothing: those that the tree at `root` records.
Result<Usage> find_usage(Device& device, SuperblockInfo const& super, StoreRoot const& root,
                         std::vector<KeptCheckpoint> const* kept);

}  // namespace lcfs
