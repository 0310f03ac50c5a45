// SPDX-License-Identifier: Apache-2.0
// Checks the owners of blocks: the runs of all layers against each other, and one layer's runs
// against what its tree uses.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fsck/store_scan.h"

namespace lcfs::fsck {

// The "file" of blocks that hold a layer's skeleton.
inline constexpr std::uint64_t kSkeletonUse = ~std::uint64_t{0};

// A node or an extent of a tree, or a part of the skeleton.
struct Use {
  std::uint64_t block = 0;
  std::uint64_t count = 0;
  std::uint64_t owner = 0;  // according to the node or the extent
  std::uint64_t inode = 0;  // of the file; 0: a node; kSkeletonUse
};

// I3 and I5: no block has two owners, and blocks without an owner are free.  Returns the free
// blocks.
std::uint64_t check_owners(StoreScan const& scan, SuperblockInfo const& superblock,
                           Findings& findings);

// Sorts `uses` by block and calls `twice` for every one that overlaps one before it.
void find_overlaps(std::vector<Use>& uses,
                   std::function<void(Use const& first, Use const& second)> const& twice);

// The differences between what `layer` owns in its tree (`uses`, sorted) and its runs, as maximal
// stretches of blocks.
struct SpaceDifference {
  std::uint64_t block = 0, count = 0;
  bool used = false;        // true: in use, but in no run; false: in a run, but not in use
  std::uint64_t inode = 0;  // the user of the blocks
};
std::vector<SpaceDifference> compare_runs(std::uint64_t layer, std::span<Use const> uses,
                                          std::span<RunEntry const> runs);

}  // namespace lcfs::fsck
