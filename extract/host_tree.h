// SPDX-License-Identifier: Apache-2.0
// Writing into a directory of the host without ever leaving it.
// Every name is used relative to an open directory and is never followed if it is a symlink, so
// nothing that stands in the target, or is put there meanwhile, can lead a write elsewhere.  Paths
// may be longer than PATH_MAX.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "device/checks.h"
#include "engine/types.h"

namespace lcfs {

// What tells one file of the host from another.
struct HostId {
  dev_t dev = 0;
  ino_t ino = 0;
  friend bool operator==(HostId const&, HostId const&) = default;
};
Result<HostId> host_id(int fd);
Result<HostId> host_id(int directory,
                       std::string const& name);  // of the name itself, also if it is a symlink

// Opens (making it, 0700, if there is none) the directory that is to be filled.  kExists if it
// holds anything, unless `force`.  `path` is the user's: symlinks in it are followed.
Result<Fd> open_target(std::string const& path, bool force);

// All of these: errors are kIo with the errno; `name` is one component.  With `force` something
// else of that name is removed first (an empty directory too), and a directory over a directory
// keeps what is in it.
Result<Fd> make_directory(int directory, std::string const& name, bool force);
Result<Fd> make_file(int directory, std::string const& name, bool force);
Status make_symlink(int directory, std::string const& name, std::string const& target, bool force);
Status make_special(int directory, std::string const& name, std::uint32_t mode, std::uint64_t rdev,
                    bool force);
// A further name for `path`, which is relative to `root`, and must still be the file `expect`.
Status make_hardlink(int root, std::string_view path, HostId const& expect, int directory,
                     std::string const& name, bool force);

// The parent of an open directory, which must still be `expect`.
Result<Fd> open_parent(int directory, HostId const& expect);

// Attributes of an open file or directory (name empty), or of `name` in `directory`, itself.
struct HostFile {
  int fd = -1;
  std::string const* name = nullptr;  // null: fd itself
};
Status set_owner(HostFile file, std::uint32_t uid, std::uint32_t gid);
Status set_permissions(HostFile file, std::uint32_t permissions);  // not for symlinks
Status set_times(HostFile file, Timestamp const& atime, Timestamp const& mtime);
Status set_xattr(HostFile file, std::string const& name, std::string const& value);

}  // namespace lcfs
