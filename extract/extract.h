// SPDX-License-Identifier: Apache-2.0
// A layer's files, or one directory of it, written out into a directory of the host.
//
// Restored: types, names, contents with their holes, hard links, symlinks, device nodes, fifos,
// sockets, owners, modes, times (nanoseconds) and extended attributes (ACLs and capabilities among
// them).  The target's own symlinks are never followed (host_tree.h).  Directories get their
// attributes when all that is in them is done. A setuid or setgid bit is left off where the owner
// it was meant for could not be set.
//
// Memory: one file's buffer, one entry a directory on the way down, one an inode with several names
// whose names have not all been seen.  Neither recursion nor open descriptors grow with depth.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "engine/layer.h"
#include "format/result.h"

namespace lcfs {

struct ExtractOptions {
  bool force = false;      // the target may hold files; what is in the way of a file is replaced
  bool same_owner = true;  // restore owners
  bool privileged = true;  // restore what only root may: device nodes, and xattrs outside user.*
  std::atomic<bool> const* stop = nullptr;  // kInterrupted soon after it becomes true
  // One file that could not be made or restored wholly; the rest goes on.  error.path: the path in
  // the layer.
  std::function<void(Error const& error)> problem{};
};

struct ExtractResult {
  std::uint64_t entries = 0;   // made: files, directories, links, ...
  std::uint64_t bytes = 0;     // of file data written; holes left out
  std::uint64_t problems = 0;  // told to ExtractOptions::problem
};

// Fills `directory`, made if it is not there.  Errors that end it: the target can't be used or is
// not empty (kExists), the host is full, the caller wants to stop.
Result<ExtractResult> extract_tree(Layer& layer, Inode from, std::string const& directory,
                                   ExtractOptions const& options);

}  // namespace lcfs
