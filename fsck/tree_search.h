// SPDX-License-Identifier: Apache-2.0
// Searches a whole store for its store trees, when neither superblock or no tree that they point to
// can be read.
//
// Nodes describe themselves (doc/format.md, "Nodes"): their block, store and generation.  Of the
// store tree's nodes of one checkpoint the root has the greatest level.  Freed blocks keep their
// contents until they are reused, and those of restore points are not reused, so an older tree is
// usually still there.
//
// A tree is only accepted if it is whole: every record is reachable and consistent with the others,
// and the root of every layer is sound.  A check finds the other damage: blocks of an older state,
// or of an unfinished checkpoint, may have been reused.  The newest tree with damage in data only
// is chosen; of two with the same generation, which a crash can leave, the one with fewer errors.
// If the first few all have damaged trees, the newest of those.  Users who can write files into a
// store could place blocks that look like nodes, so a search only runs on request.  Time: reads the
// whole store once, and checks it like fsck --data for each of the first few trees.  Memory: 100
// bytes for each generation that has nodes, and that of a check.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fsck/check.h"

namespace lcfs::fsck {

using Slots = std::array<std::optional<SuperblockInfo>, 2>;

struct FoundTree {
  SuperblockInfo superblock{};      // made for it: identity, generation, root and counters
  std::uint64_t errors = 0;         // found by a check
  bool whole = false;               // all errors are in data
  std::uint64_t newest = 0;         // the greatest generation of any node found
  std::int64_t last_change_ns = 0;  // the latest time in its records
  std::vector<Uuid> others{};       // other stores with a whole tree on this device

  // "that of generation 7 at offset 0x1000, with 3 layers and 1 images, the newest of 2026-11-26
  // 10:00:00 UTC", and its errors
  [[nodiscard]] std::string text() const;
};

// The newest whole tree.  `slots`: if one is valid, only trees of its store count, without those
// that the slots point to.  `after`: only trees of later generations.  Errors: kCorrupt if there is
// none, kInterrupted.
Result<FoundTree> search_tree(Device& device, Options const& options, Slots const& slots,
                              std::uint64_t after = 0);

// The latest generation whose tree may exist without a superblock if that of `generation` is the
// newest: a process that opened the store may have been killed during its first checkpoint (Store
// gives it generation + 2).  A later tree once had a superblock, so an old copy of the superblocks
// was put back.
constexpr std::uint64_t last_without_superblock(std::uint64_t generation) { return generation + 2; }

// "2026-11-26 10:00:00 UTC"
[[nodiscard]] std::string time_text(std::int64_t ns);

}  // namespace lcfs::fsck
