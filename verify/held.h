// SPDX-License-Identifier: Apache-2.0
// Layers as of one checkpoint, kept readable on the device while the store stays in use.
#pragma once

#include <span>
#include <vector>

#include "engine/store.h"

namespace lcfs::verify {

struct HeldLayers {
  CheckpointPin pin{};
  std::vector<LayerInfo> layers{};  // in the order of `ids`, without those that no longer exist
  SuperblockInfo superblock{};      // generations and blocks of the layers lie within it
};
// Makes a checkpoint and pins it.
Result<HeldLayers> hold_layers(Store& store, std::span<LayerId const> ids);

}  // namespace lcfs::verify
