// SPDX-License-Identifier: Apache-2.0
// Layers as one checkpoint has them, kept readable on the device beneath a store that goes on.
#pragma once

#include <span>
#include <vector>

#include "engine/store.h"

namespace lcfs {

struct HeldLayers {
  CheckpointPin pin{};
  std::vector<LayerInfo> layers{};  // in the order asked for, without those that are gone
  SuperblockInfo superblock{};      // a bound for all that they reach
};
// Makes checkpoints.
Result<HeldLayers> hold_layers(Store& store, std::span<LayerId const> ids);

}  // namespace lcfs
