// SPDX-License-Identifier: Apache-2.0
// Kept checkpoints: each is checked as the store that it was, and against what the store is now.
// A layer whose tree is the same now, or at a newer kept checkpoint, is not looked at again; if
// that is damaged, so is every one that has it.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "fsck/check.h"
#include "fsck/survey.h"

namespace lcfs::fsck {

// Returns the blocks that only kept checkpoints use.  `sound`: those in which nothing is wrong, by
// generation, with their blocks. layers: what was found of the live ones.
std::uint64_t check_history(LayerContext const& now, Options const& options,
                            std::unordered_map<std::uint64_t, LayerFacts> const& layers,
                            std::vector<KeptFacts>& sound);

}  // namespace lcfs::fsck
