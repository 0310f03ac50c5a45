// SPDX-License-Identifier: Apache-2.0
// Removing layers and images: parts of a change of the store tree.
//
// Threads: the structure lock, exclusive; within StoreTree::change().
#pragma once

#include <string_view>

#include "engine/store/store_impl.h"

namespace lcfs {

// Takes away the layer's name and tree; its runs follow by and by (RemovedLayers).  Anonymous
// ancestors that have no other child go along.  Returns the first ancestor that stays; 0: none.
// kBusy: it has children, or an image is based on it.
Result<LayerId> remove_layer(StoreImpl& s, LayerInfo info) LCFS_REQUIRES(structure);
// Only the name goes.
Status make_anonymous(StoreImpl& s, LayerInfo info) LCFS_REQUIRES(structure);
// Takes the name away; with the last name, or without one (""), the image goes, and with it its
// layers, from the top down, as long as nothing else is based on them and no user named them.
Status remove_image(StoreImpl& s, ImageId id, std::string_view name) LCFS_REQUIRES(structure);

}  // namespace lcfs
