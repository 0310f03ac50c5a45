// SPDX-License-Identifier: Apache-2.0
// Differences as a patch in git format, for git apply(1) and GNU patch(1): contents of text files,
// targets of symlinks, renames, and the executable bit.  Differences that a patch cannot express
// (owners, times, directories, devices, ...) become lines that begin with "# ", which both programs
// ignore.
#pragma once

#include <atomic>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "engine/diff.h"

namespace lcfs::cli {

// Bytes.  Of larger files the patch only states that they differ.
inline constexpr std::uint64_t kMaxPatchFile = std::uint64_t{4} << 20;

// Writes the patch of `entries` to `out`.  A file is text if it contains no zero byte.
// `words` returns the text of the "# " line for an entry that a patch cannot express.
// `unreadable` is called for each file that cannot be read because it is damaged (kCorrupt, kIo);
// the patch leaves it out and continues.  `stop` ends the call with kInterrupted.
Status write_patch(LayerDiff& diff, std::vector<DiffEntry> const& entries, std::ostream& out,
                   std::function<std::string(DiffEntry const&)> const& words,
                   std::function<void(DiffEntry const&, Error const&)> const& unreadable,
                   std::atomic<bool> const& stop);

}  // namespace lcfs::cli
