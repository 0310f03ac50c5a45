// SPDX-License-Identifier: Apache-2.0
#include "engine/store/catalog.h"

namespace lcfs {

Catalog::Catalog(NodeCache& cache, SpaceMap& space, Health& health, DirtySet const& dirty, Ids& ids,
                 Device const& device, SuperblockInfo const& super)
    : tree(cache, space, health, dirty, super),
      names(tree, super.hash_seed, device),
      layers(tree, space, device, super),
      images(tree, names, layers, ids, super.hash_seed, device, super) {}

void Catalog::describe(SuperblockInfo& super) const {
  super.store_root = tree.read().root();
  super.store_tree_blocks = tree.blocks();
  super.layer_blocks = layers.blocks();
  super.layer_count = layers.count();
  super.image_count = images.count();
}

void Catalog::reset(KeptCheckpoint const& to) {
  tree.reset(to.root, to.store_tree_blocks);
  layers.reset_totals(to.layer_count, to.layer_blocks);
  images.reset_total(to.image_count);
}

}  // namespace lcfs
