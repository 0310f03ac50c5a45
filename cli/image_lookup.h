// SPDX-License-Identifier: Apache-2.0
// The image that a layer belongs to.
#pragma once

#include <optional>
#include <vector>

#include "engine/store.h"

namespace lcfs::cli {

// The layer and all its ancestors, base layer first.  kCorrupt if the parents form a loop.
Result<std::vector<LayerInfo>> chain_of(Store const& store, LayerId top);

// The image whose top layer is the highest in `chain`; if there is none and `above` is set, an
// image that contains the whole chain.  Cost: reads all images.
Result<std::optional<ImageDetails>> image_of(Store const& store,
                                             std::vector<LayerInfo> const& chain, bool above);

}  // namespace lcfs::cli
