// SPDX-License-Identifier: Apache-2.0
// Checks restore points: each as the store that it was, and against the current store.
// A layer with the same tree now, or in a newer restore point, is not checked again; if that tree
// is damaged, so is every restore point that has it.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "fsck/check.h"
#include "fsck/survey.h"

namespace lcfs::fsck {

// Returns the blocks that only restore points use.  `sound`: the sound ones, by generation, with
// their blocks.  layers: the results for the live layers.
std::uint64_t check_history(LayerContext const& now, Options const& options,
                            std::unordered_map<std::uint64_t, LayerFacts> const& layers,
                            std::vector<KeptFacts>& sound);

}  // namespace lcfs::fsck
