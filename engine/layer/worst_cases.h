// SPDX-License-Identifier: Apache-2.0
// How many blocks a change of a layer may take at most: what is reserved before it begins, so that
// it never finds out in its middle that there is no room.
#pragma once

#include <cstdint>

namespace lcfs {

// One name operation: up to eight records in different leaves, each with a path of its own and a
// split.
inline constexpr std::uint64_t kOperationBlocks = 192;

// Metadata of dirty pages is reserved by windows of so many pages.
inline constexpr std::uint64_t kWindowPages = 64;
// One window: its extents in two leaves, copied and split, and the branches above.
inline constexpr std::uint64_t kWindowBlocks = 40;
inline constexpr std::uint64_t kFileBlocks = 48;  // inode, inline data and their paths

}  // namespace lcfs
