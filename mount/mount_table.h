// SPDX-License-Identifier: Apache-2.0
// What is mounted where, as the kernel tells this mount namespace.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/result.h"
#include "mount/control.h"
#include "mount/options.h"

namespace lcfs::mount {

inline constexpr std::string_view kFsType{"fuse.lcfs"};
inline constexpr char const* kAccessXattr =
    "user.lcfs.access";  // "ro" or "rw": how the server of the mount has its store
inline constexpr char const* kOptionsXattr =
    "user.lcfs.options";  // what it was asked for (own_text())

struct MountEntry {
  std::string device{};     // "0:52": the same for all places where one file system is mounted
  std::string directory{};  // absolute, without symlinks
  std::string source{};     // of an lcfs mount: the store's path
  std::string type{};
  unsigned long flags = 0;  // MS_ flags of this place
};

// One line of /proc/self/mountinfo (proc(5)); nothing if it isn't one.
std::optional<MountEntry> parse_mount_line(std::string_view line);

// All lcfs mounts, the last one made last.
Result<std::vector<MountEntry>> lcfs_mounts();
// Those of one store.
Result<std::vector<MountEntry>> mounts_of(StoreIdentity const& store);

// The directory as the mount table names it: without symlinks, and found even if the server behind
// it is dead, so that nothing can be asked of the directory itself.
Result<std::string> mount_point_path(std::string const& directory);

// Changes the VFS' flags of the mount at options.directory as options.vfs says; all others stay, or
// go (all_flags).  kInvalid: something is asked for that only a new mount can have.
Status remount(MountOptions const& options);

}  // namespace lcfs::mount
