// SPDX-License-Identifier: Apache-2.0
// Writes into a directory of the host without ever leaving it.
// Every name is used relative to an open directory and is never followed if it is a symlink, so
// nothing in the target, not even what is added meanwhile, can redirect a write elsewhere.  Paths
// may be longer than PATH_MAX.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "device/checks.h"
#include "engine/types.h"

namespace lcfs::extract {

// The identity of a file of the host.
struct HostId {
  dev_t dev = 0;
  ino_t ino = 0;
  friend bool operator==(HostId const&, HostId const&) = default;
};
Result<HostId> host_id(int fd);
Result<HostId> host_id(int directory,
                       std::string const& name);  // of the name itself, even if it is a symlink

// Opens the target directory, and creates it with mode 0700 if needed.  kExists if it is not empty,
// unless `force`.  `path` is the user's: symlinks in it are followed.
Result<Fd> open_target(std::string const& path, bool force);

// For all of these: errors carry the errno; `name` is one component.  `force` first removes an
// existing file (or an empty directory) of that name; an existing directory keeps its contents if a
// directory is made.
Result<Fd> make_directory(int directory, std::string const& name, bool force);
Result<Fd> make_file(int directory, std::string const& name, bool force);
Status make_symlink(int directory, std::string const& name, std::string const& target, bool force);
Status make_special(int directory, std::string const& name, std::uint32_t mode, std::uint64_t rdev,
                    bool force);
// Adds a name for `path`, which is relative to `root` and must still be the file `expect`.
Status make_hardlink(int root, std::string_view path, HostId const& expect, int directory,
                     std::string const& name, bool force);

// The parent of an open directory, which must still be `expect`.
Result<Fd> open_parent(int directory, HostId const& expect);

// A file whose attributes are set: an open file or directory, or `name` in an open directory.
struct HostFile {
  int fd = -1;
  std::string const* name = nullptr;  // null: fd itself
};
Status set_owner(HostFile file, std::uint32_t uid, std::uint32_t gid);
Status set_permissions(HostFile file, std::uint32_t permissions);  // not for symlinks
Status set_times(HostFile file, Timestamp const& atime, Timestamp const& mtime);
Status set_xattr(HostFile file, std::string const& name, std::string const& value);

}  // namespace lcfs::extract
