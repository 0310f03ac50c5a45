// SPDX-License-Identifier: Apache-2.0
// What the files about data share: rounding, and the worst cases that dirty pages promise.
#pragma once

#include <cstdint>

#include "format/layout.h"

namespace lcfs {

constexpr std::uint64_t round_down(std::uint64_t v) { return v & ~std::uint64_t{kBlockSize - 1}; }
constexpr std::uint64_t round_up(std::uint64_t v) { return round_down(v + kBlockSize - 1); }
inline constexpr std::uint64_t kWindowPages = 64;
// Metadata of one window of dirty pages, worst case: its extents in two leaves, copied and split,
// and the branches above.
inline constexpr std::uint64_t kWindowBlocks = 40;
inline constexpr std::uint64_t kFileBlocks = 48;  // inode, inline data and their paths

}  // namespace lcfs
