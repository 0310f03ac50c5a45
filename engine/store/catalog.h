// SPDX-License-Identifier: Apache-2.0
// The catalog: the store tree and the tables in it, under the structure lock.
//
// The lock orders all changes of the set of layers and images.  Whoever changes that set holds it
// exclusively, and so does a checkpoint while it takes over.  It is never held across data I/O
// (I8).  What else must agree with the tree (History, RemovedLayers) is under it too.
#pragma once

#include "engine/store/image_table.h"
#include "engine/store/layer_table.h"
#include "engine/store/name_table.h"
#include "engine/store/store_tree.h"

namespace lcfs {

class Catalog {
 public:
  // All but the superblock must outlive this.
  Catalog(NodeCache& cache, SpaceMap& space, Health& health, DirtySet const& dirty, Ids& ids,
          Device const& device, SuperblockInfo const& super);

  // The structure lock: ReadLock or WriteLock lock(catalog.mutex()).
  [[nodiscard]] SharedMutex& mutex() const LCFS_RETURN_CAPABILITY(structure) { return mu_; }

  StoreTree tree;
  NameTable names;
  LayerTable layers;
  ImageTable images;

  // Root and totals, as the superblock of the next checkpoint has them.
  void describe(SuperblockInfo& super) const LCFS_REQUIRES_SHARED(structure);
  // All tables are as that checkpoint has them; its root is durable, and nothing is dirty.
  void reset(KeptCheckpoint const& to) LCFS_REQUIRES(structure);

 private:
  mutable SharedMutex mu_{lock_order::structure_rank};
};

}  // namespace lcfs
