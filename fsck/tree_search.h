// SPDX-License-Identifier: Apache-2.0
// Looks over a whole store for its store trees: for when neither superblock can be read, or no tree
// that they lead to.
//
// Nodes say what they are (doc/format.md, "Nodes"): where they stand, of which store, of which
// generation.  Of the nodes of one checkpoint that belong to the store tree its root has the
// greatest level.  Blocks that a checkpoint freed hold what they held until they are used again,
// and those of kept checkpoints are not, so an older tree is mostly there.
//
// What was found is only taken if it is whole: every record reached and in agreement with the
// others, and the root of every layer sound.  A check tells what else is wrong: blocks of an older
// state, or of a checkpoint that was never finished, may have been used again. The newest is taken
// in which nothing is but data; of two that have one generation, which a crash and what was done
// after it can leave, the one with fewer errors.  If the first few all have damaged trees, the
// newest of those.  Whoever may write files into a store could place blocks in it that look like
// nodes; so nobody searches unasked. Time: reads the whole store once, and checks it as fsck --data
// for each of the first few.  Memory: 100 bytes for each generation that has nodes, and that of a
// check.
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
  SuperblockInfo superblock{};      // made up for it: identity, generation, root and counters
  std::uint64_t errors = 0;         // that a check found in it
  bool whole = false;               // none of them but in data
  std::uint64_t newest = 0;         // the greatest generation of any node that was met
  std::int64_t last_change_ns = 0;  // the latest time that its records tell
  std::vector<Uuid> others{};       // further stores of which there is a whole tree

  // "that of generation 7 at byte 0x1000, with 3 layers and 1 images, of which the newest is of
  // 2026-11-26 10:00:00 UTC", what is wrong in it
  [[nodiscard]] std::string text() const;
};

// The newest whole tree.  `slots`: if one is valid, only its store is looked for, and not the trees
// that the slots lead to. `after`: only trees of later generations.  Errors: kCorrupt if there is
// none, kInterrupted.
Result<FoundTree> search_tree(Device& device, Options const& options, Slots const& slots,
                              std::uint64_t after = 0);

// A whole tree later than this is no proof of damage if the superblock of `generation` is the
// newest: a process that opened the store since may have been killed in its first checkpoint (Store
// numbers that generation + 2).  Of a later one a superblock was written once, so an old copy of
// the superblocks was put back.
constexpr std::uint64_t last_without_superblock(std::uint64_t generation) { return generation + 2; }

// "2026-11-26 10:00:00 UTC"
[[nodiscard]] std::string time_text(std::int64_t ns);

}  // namespace lcfs::fsck
