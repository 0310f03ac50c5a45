// SPDX-License-Identifier: Apache-2.0
// Layers in the store tree: their records, their space runs, and what is recorded about them.
//
// A run is (layer, first block) -> length.  The runs of a layer are exactly the blocks that its
// durable state uses (I5).
//
// Threads: the structure lock, shared to read, exclusive to change.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/store/store_tree.h"
#include "engine/types.h"

namespace lcfs {

struct Handover;  // engine/layer/layer_impl.h

// Blocks that hold a part of a skeleton (engine/skeleton.h).
struct SkeletonExtent {
  std::uint64_t block = 0;
  std::vector<std::uint32_t> sums{};  // crc32c of each block, at most kMaxExtentBlocks
};

// What so many runs add to the store tree, whose nodes are at least half full.  Blocks.
constexpr std::uint64_t run_blocks(std::size_t runs) {
  constexpr std::uint64_t kRunBytes = 64;  // key, slot and value
  return 2 * kRunBytes * runs / kNodeSize * kNodeBlocks;
}

// Layers of any store tree, in id order, without dying ones.  total: blocks of the store.
Result<std::vector<LayerInfo>> layers_in(Tree const& tree, std::uint64_t total);

class LayerTable {
 public:
  // All but the superblock must outlive this.
  LayerTable(StoreTree& tree, SpaceMap const& space, Device const& device,
             SuperblockInfo const& super)
      : tree_(tree),
        space_(space),
        device_(device),
        count_(super.layer_count),
        blocks_(super.layer_blocks) {}

  // Records.  kNotFound: no such layer; live() also if it is dying.
  Result<LayerInfo> record(LayerId id) const LCFS_REQUIRES_SHARED(structure);
  Result<LayerInfo> live(LayerId id) const LCFS_REQUIRES_SHARED(structure);
  Status put(LayerInfo const& info) LCFS_REQUIRES(structure);
  // The layers below one, nearest first; `most` at most.  Ends early where a record is missing.
  [[nodiscard]] std::vector<LayerId> ancestors(LayerId id, std::size_t most) const
      LCFS_REQUIRES_SHARED(structure);

  // A hand-over's counters, runs and, unless the layer is removed, root go into its record; the
  // blocks that it freed go to `freed`.  False: the layer is gone, and the hand-over with it.
  // in_use: removed, but its object goes on.
  Result<bool> take_over(Handover& handover, bool in_use, std::vector<Extent>& freed)
      LCFS_REQUIRES(structure);

  // Runs.  The extents need not be sorted.  remove_runs(): kCorrupt if the layer does not own
  // them.
  Status add_runs(LayerId id, std::vector<Extent> extents) LCFS_REQUIRES(structure);
  Status remove_runs(LayerId id, std::vector<Extent> extents) LCFS_REQUIRES(structure);
  // Frees up to `most` runs of a dying layer, in address order, and its record when none is left.
  // Returns the runs; fewer than `most`: the layer is gone.
  Result<std::vector<Extent>> reclaim(LayerId id, std::size_t most) LCFS_REQUIRES(structure);

  // The digest of a frozen layer's tree, if it is recorded.
  Result<std::optional<Digest>> tree_digest(LayerId id) const LCFS_REQUIRES_SHARED(structure);
  Status put_tree_digest(LayerId id, Digest const& digest) LCFS_REQUIRES(structure);
  Status erase_tree_digest(LayerId id) LCFS_REQUIRES(structure);
  // The skeleton of its tar (engine/skeleton.h).
  Status put_skeleton(SkeletonInfo const& info, std::vector<SkeletonExtent> const& extents)
      LCFS_REQUIRES(structure);
  Status erase_skeleton(LayerId id) LCFS_REQUIRES(structure);

  // Totals, as a superblock has them: live layers, and blocks of all layers' runs.
  [[nodiscard]] std::uint64_t count() const LCFS_REQUIRES_SHARED(structure) { return count_; }
  [[nodiscard]] std::uint64_t blocks() const LCFS_REQUIRES_SHARED(structure) { return blocks_; }
  // A layer is new; it brings that many blocks, which no hand-over counts.
  void count_new(std::uint64_t blocks = 0) LCFS_REQUIRES(structure) {
    ++count_;
    blocks_ += blocks;
  }
  // One is dying; its blocks count until reclaim().
  void count_removed() LCFS_REQUIRES(structure) { --count_; }
  void reset_totals(std::uint64_t count, std::uint64_t blocks) LCFS_REQUIRES(structure) {
    count_ = count;
    blocks_ = blocks;
  }

 private:
  [[nodiscard]] Error no_layer(LayerId id) const;

  StoreTree& tree_;
  SpaceMap const& space_;
  Device const& device_;
  std::uint64_t count_ LCFS_GUARDED_BY(structure);
  std::uint64_t blocks_ LCFS_GUARDED_BY(structure);
};

}  // namespace lcfs
