// SPDX-License-Identifier: Apache-2.0
// Differences as a patch in git's form, which git apply(1) and GNU patch(1) read: contents of text
// files and targets of symlinks, renames, and whether a file is executable.  What a patch can't say
// (owners, times, directories, devices, ...) is a line that begins with "# " and that both leave
// alone.
#pragma once

#include <atomic>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "engine/diff.h"

namespace lcfs::cli {

// Files beyond are only said to differ.
inline constexpr std::uint64_t kMaxPatchFile = std::uint64_t{4} << 20;

// `words`: the line that tells of an entry without a patch.  A file is text if no byte of it is
// NUL. `unreadable`: is told of files that damage keeps from being read; they are left out, the
// others follow.
Status write_patch(LayerDiff& diff, std::vector<DiffEntry> const& entries, std::ostream& out,
                   std::function<std::string(DiffEntry const&)> const& words,
                   std::function<void(DiffEntry const&, Error const&)> const& unreadable,
                   std::atomic<bool> const& stop);

}  // namespace lcfs::cli
