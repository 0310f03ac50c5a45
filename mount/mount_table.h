// SPDX-License-Identifier: Apache-2.0
// The mount table of this mount namespace.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "mount/control.h"
#include "mount/options.h"

namespace lcfs::mount {

inline constexpr std::string_view kFsType{"fuse.lcfs"};
inline constexpr char const* kAccessXattr =
    "user.lcfs.access";  // "ro" or "rw": how the mount's server has opened the store
inline constexpr char const* kOptionsXattr =
    "user.lcfs.options";  // the mount options that the VFS does not show (own_text())

struct MountEntry {
  std::string device{};     // such as "0:52"; the same for all mounts of one file system
  std::string directory{};  // absolute, without symlinks
  std::string source{};     // the store's path, for an lcfs mount
  std::string type{};
  unsigned long flags = 0;  // MS_ flags of this mount
};

// Parses a line of /proc/self/mountinfo (proc(5)); nullopt if it is malformed.
std::optional<MountEntry> parse_mount_line(std::string_view line);

// All lcfs mounts, in the order in which they were made.
Result<std::vector<MountEntry>> lcfs_mounts();
// The mounts of one store.
Result<std::vector<MountEntry>> mounts_of(StoreIdentity const& store);

// The path of the directory in the mount table, without symlinks.  Works even if the mount's server
// is dead, so that the directory itself cannot be accessed.
Result<std::string> mount_point_path(std::string const& directory);

// Changes the VFS flags of the mount at options.directory to options.vfs.  Other flags stay, or are
// cleared if all_flags is set.  Errors: kNotFound (not mounted), kInvalid (an option that only a
// new mount can set), kReadOnly (the server has opened the store read-only), kIo.
Status remount(MountOptions const& options);

}  // namespace lcfs::mount
