// SPDX-License-Identifier: Apache-2.0
// Which image a layer belongs to.
#pragma once

#include <optional>
#include <vector>

#include "engine/store.h"

namespace lcfs::cli {

// The layer and all below it, base first.
Result<std::vector<LayerInfo>> chain_of(Store const& store, LayerId top);

// The image whose top is highest in the chain; else, where `above` is set, one that stands on the
// chain.  Looks at all images.
Result<std::optional<ImageDetails>> image_of(Store const& store,
                                             std::vector<LayerInfo> const& chain, bool above);

}  // namespace lcfs::cli
