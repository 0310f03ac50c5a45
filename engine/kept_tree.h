// SPDX-License-Identifier: Apache-2.0
// The store tree of a kept checkpoint, to read in.
#pragma once

#include <vector>

#include "engine/store_impl.h"

namespace lcfs {

// Under StoreImpl::mu, so that the checkpoint isn't dropped meanwhile.
struct KeptTree {
  KeptTree(StoreImpl& store, KeptCheckpoint const& k)
      : space(store.space, 0), tree(store.cache, space, k.root) {}
  OwnerSpace space;
  Tree tree;
};

// Layers in id order, without dying ones.
Result<std::vector<LayerInfo>> layers_in(Tree const& tree, std::uint64_t total);

// Of any store tree.
Result<std::vector<ImageId>> images_in(Tree const& tree);  // sorted
Result<ImageDetails> image_in(Tree const& tree, ImageId id);

}  // namespace lcfs
