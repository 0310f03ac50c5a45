// SPDX-License-Identifier: Apache-2.0
// The handlers of the kernel's requests, which call the engine.  Handlers use node ids and layers;
// they depend neither on trees nor on transports.
//
// Every handler answers before it returns (transport.h).  The kernel checks permissions
// (default_permissions).  The handlers do the rest of what POSIX requires: owners of new files,
// umask and default ACLs, and clearing suid and sgid.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include "mount/mount.h"
#include "mount/request.h"

namespace lcfs::mount {

// Seconds.  Cached until invalidated, because only the server changes anything.
inline constexpr double kForever = 10.0 * 365 * 86400;
// How long the kernel can cache attributes, in seconds.  Short where the number of blocks changes
// without the kernel's knowledge: data is not written yet or, with writeback, still cached by the
// kernel. Zero where a write changes the mode, which the kernel leaves to us (KILLPRIV_V2) and does
// not read again.
[[nodiscard]] double attr_timeout(Mount const& mount, Served const& served, Attr const& attr);

[[nodiscard]] fuse_lowlevel_ops make_ops();

[[nodiscard]] inline Mount& mount_of(fuse_req_t req) {
  return *static_cast<Mount*>(fuse_req_userdata(req));
}

void reply_error(fuse_req_t req, Mount& mount, Error const& error);
void reply_status(fuse_req_t req, Mount& mount, Status const& status);
// Replies with an entry for `attr`, and counts it as a lookup.
void reply_entry(fuse_req_t req, Mount& mount, Served& served, Attr const& attr);
[[nodiscard]] fuse_entry_param entry_of(Mount const& mount, Served const& served, Attr const& attr);

// Creates a file with the caller as owner, and applies the directory's group rules, umask and
// default ACLs.  `name` empty: creates a file without a name.
struct NewFile {
  std::string_view name{};
  std::uint32_t mode = 0, umask = 0, uid = 0, gid = 0;
  std::uint64_t rdev = 0;
  std::string_view target{};  // of a symlink
};
Result<Attr> make_file(Node const& directory, NewFile const& file);

// Call it before a change of a file's data: clears privileges (suid, sgid, capabilities) that the
// caller cannot keep.  `kernel_says`: the request itself asks to clear them.
Status settle_privileges(fuse_req_t req, Node const& node, bool kernel_says);

// ops_names.cc
void op_lookup(fuse_req_t req, fuse_ino_t parent, char const* name);
void op_forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t count);
void op_forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets);
void op_mknod(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode);
void op_create(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode,
               fuse_file_info* fi);
void op_symlink(fuse_req_t req, char const* target, fuse_ino_t parent, char const* name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, char const* name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, char const* name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, char const* name);
void op_rename(fuse_req_t req, fuse_ino_t from, char const* name, fuse_ino_t to,
               char const* new_name, unsigned flags);
// TMPFILE and STATX, which libfuse does not know; they send their replies themselves.
void op_tmpfile(Mount& mount);

// ops_attr.cc
void op_statx(Mount& mount);
void op_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* fi);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, char const* name, char const* value,
                 std::size_t size, int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, char const* name, std::size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, std::size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, char const* name);

// ops_data.cc
void op_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void op_read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* fi);
void op_write(fuse_req_t req, fuse_ino_t ino, char const* data, std::size_t size, off_t offset,
              fuse_file_info* fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  fuse_file_info* fi);
void op_copy_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, fuse_file_info* from_fi,
                   fuse_ino_t to, off_t to_offset, fuse_file_info* to_fi, std::size_t length,
                   int flags);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* fi);

// ops_dir.cc
void op_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                    fuse_file_info* fi);

}  // namespace lcfs::mount
