// SPDX-License-Identifier: Apache-2.0
// Kept checkpoints: each is checked as the store that it was, and against what the store is now.
// A layer whose tree is the same now, or at a newer kept checkpoint, is not looked at again.
#pragma once

#include <cstdint>

#include "fsck/check.h"
#include "fsck/layer_check.h"

namespace lcfs::fsck {

// Returns the blocks that only kept checkpoints use.
std::uint64_t check_history(LayerContext const& now, Options const& options);

}  // namespace lcfs::fsck
