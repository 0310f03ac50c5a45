// SPDX-License-Identifier: Apache-2.0
// Reads store trees from the device, node by node and without a cache, to find out which blocks are
// used when a store is opened.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "engine/space/space_map.h"
#include "engine/types.h"

namespace lcfs {

// Where a store tree is: what superblocks and kept checkpoints have in common.
struct StoreRoot {
  NodePtr root{};
  std::uint64_t generation = 0;
  std::uint64_t store_tree_blocks = 0, layer_blocks = 0;
};

// The space that one store tree uses.  Nodes and runs are in the order of the walk, so those below
// one node are neighbours.
struct StoreTreeUse {
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
  // Subtrees that `skip` has too, which were left out: where they are there.
  std::vector<Seen> shared{};
};

// Appends to `out`.  Leaves out nodes that `skip` has seen, with all below them.  kCorrupt, kIo.
Status walk_store_tree(Device& device, SuperblockInfo const& super, NodePtr const& root,
                       StoreTreeUse const* skip, StoreTreeUse& out);

// Blocks of the current tree and of kept ones, told apart.
struct Usage {
  StoreTreeUse current{};
  std::vector<Extent> used{};          // by the current tree; sorted, disjoint
  std::vector<KeptCheckpoint> kept{};  // that can be read; by generation
  // That can't: they, and all that are older, can't be kept any longer.
  std::vector<KeptCheckpoint> lost{};
  std::vector<Aged> history{};  // used by kept trees only, with the newest that does
  std::vector<Aged> later{};    // used, but not by the newest kept tree; with the newest kept one
                                // that does, 0: none
};

// Checks I5 for `root`.  kept: null: the ones that the tree at `root` records.
Result<Usage> find_usage(Device& device, SuperblockInfo const& super, StoreRoot const& root,
                         std::vector<KeptCheckpoint> const* kept);

}  // namespace lcfs
