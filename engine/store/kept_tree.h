// SPDX-License-Identifier: Apache-2.0
// The store tree of a kept checkpoint, to read in.
#pragma once

#include "engine/store/store_impl.h"

namespace lcfs {

// Lives under the structure lock, so that the checkpoint isn't dropped meanwhile.
struct KeptTree {
  KeptTree(StoreImpl& store, KeptCheckpoint const& k)
      : space(store.space, 0), tree(store.cache, space, k.root) {}
  OwnerSpace space;
  Tree tree;
};

}  // namespace lcfs
