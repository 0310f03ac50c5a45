// SPDX-License-Identifier: Apache-2.0
// Extracts a layer, or one directory of it, into a directory of the host.
//
// Restored: types, names, contents with their holes, hard links, symlinks, device nodes, fifos,
// sockets, owners, modes, times (nanoseconds) and extended attributes (ACLs and capabilities among
// them).  The target's own symlinks are never followed (host_tree.h).  Directories get their
// attributes after their contents.  A setuid or setgid bit is dropped if the owner could not be
// set.
//
// Memory: one file buffer, one entry per directory of the current path, one per inode with several
// names until all of them were seen.  Neither recursion nor open descriptors grow with depth.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "engine/layer.h"

namespace lcfs::extract {

struct ExtractOptions {
  bool force = false;      // the target need not be empty; conflicting files are replaced
  bool same_owner = true;  // restore owners
  bool privileged = true;  // restore what only root may: device nodes, and xattrs outside user.*
  std::atomic<bool> const* stop = nullptr;  // kInterrupted soon after it becomes true
  // Gets each file that could not be created or fully restored; extraction continues.
  // error.path: the path in the layer.
  std::function<void(Error const& error)> problem{};
};

struct ExtractResult {
  std::uint64_t entries = 0;   // created: files, directories, links, ...
  std::uint64_t bytes = 0;     // of file data written, without holes
  std::uint64_t problems = 0;  // reported to ExtractOptions::problem
};

// Extracts into `directory`, which is created if needed.  Errors: the target is unusable or not
// empty (kExists), the host is full, kInterrupted.
Result<ExtractResult> extract_tree(Layer& layer, Inode from, std::string const& directory,
                                   ExtractOptions const& options);

}  // namespace lcfs::extract
