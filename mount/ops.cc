// SPDX-License-Identifier: Apache-2.0
// The handlers of all requests, and what is negotiated with the kernel.
#include "mount/ops.h"

#include "mount/transport.h"

namespace lcfs::mount {
namespace {

void op_init(void* userdata, fuse_conn_info* conn) {
  auto const& mount = *static_cast<Mount const*>(userdata);
  // Not ASYNC_DIO: the kernel does not drop pages that are read during such a write, and would use
  // the stale pages indefinitely.
  constexpr unsigned kWanted =
      FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPORT_SUPPORT |  // file handles; lookups of "." and ".."
      FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL |        // umask and default ACLs are ours
      FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS |
      FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT |
      FUSE_CAP_EXPLICIT_INVAL_DATA;  // only we change data, so the cache needs no revalidation
  conn->want = conn->capable & kWanted;
  if (mount.options.writeback.value_or(false))
    conn->want |= conn->capable & FUSE_CAP_WRITEBACK_CACHE;
  conn->max_write = static_cast<unsigned>(kMaxData);
  conn->max_background = 64;
  conn->congestion_threshold = 48;
  conn->time_gran = 1;
}

// After the answer ENOSYS the kernel never sends this request again.
void op_access(fuse_req_t req, fuse_ino_t, int) { fuse_reply_err(req, ENOSYS); }
void op_flush(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, ENOSYS); }
void op_release(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, 0); }

}  // namespace

// The kernel implements locks (no getlk, setlk, flock here), because all clients of a mount are on
// this machine.
fuse_lowlevel_ops make_ops() {
  fuse_lowlevel_ops ops{};
  ops.init = op_init;
  ops.lookup = op_lookup;
  ops.forget = op_forget;
  ops.forget_multi = op_forget_multi;
  ops.getattr = op_getattr;
  ops.setattr = op_setattr;
  ops.readlink = op_readlink;
  ops.mknod = op_mknod;
  ops.mkdir = op_mkdir;
  ops.create = op_create;
  ops.symlink = op_symlink;
  ops.link = op_link;
  ops.unlink = op_unlink;
  ops.rmdir = op_rmdir;
  ops.rename = op_rename;
  ops.open = op_open;
  ops.read = op_read;
  ops.write = op_write;
  ops.flush = op_flush;
  ops.release = op_release;
  ops.fsync = op_fsync;
  ops.opendir = op_opendir;
  ops.readdir = op_readdir;
  ops.readdirplus = op_readdirplus;
  ops.releasedir = op_release;
  ops.fsyncdir = op_fsync;
  ops.statfs = op_statfs;
  ops.setxattr = op_setxattr;
  ops.getxattr = op_getxattr;
  ops.listxattr = op_listxattr;
  ops.removexattr = op_removexattr;
  ops.access = op_access;
  ops.fallocate = op_fallocate;
  ops.copy_file_range = op_copy_range;
  ops.lseek = op_lseek;
  return ops;
}

}  // namespace lcfs::mount
