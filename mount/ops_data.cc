// SPDX-License-Identifier: Apache-2.0
// The contents of files.
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "device/device.h"
#include "mount/opcodes.h"
#include "mount/ops.h"

namespace lcfs::mount {
namespace {

// relatime: updates the access time if it is older than the last change, or than a day.
bool stale_atime(InodeInfo const& info, Atime how) {
  if (how == Atime::kAlways) return true;
  return info.atime <= info.mtime || info.atime <= info.ctime ||
         now_timestamp().sec - info.atime.sec > 86400;
}

void touch_atime(Mount& mount, Node const& node) {
  if (mount.options.atime == Atime::kNever || node.layer().frozen() || mount.options.read_only())
    return;
  auto const attr = node.layer().getattr(node.inode);
  if (!attr || !stale_atime(attr->info, mount.options.atime)) return;
  SetAttr set;
  set.atime = now_timestamp();
  set.ctime = attr->info.ctime;
  static_cast<void>(node.layer().setattr(
      node.inode, set));  // an access time that cannot be updated must not fail the read
}

}  // namespace

// ENOSYS: from now on the kernel opens files without asking.  Inodes live until it forgets them
// (Layer::hold_unlinked).
void op_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  static_cast<void>(ino);
  static_cast<void>(fi);
  fuse_reply_err(req, ENOSYS);
}

void op_read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* fi) {
  static_cast<void>(fi);
  Mount& mount = mount_of(req);
  if (mount.is_virtual(ino)) return mount.pseudo.read(req, ino, size, offset);
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  AlignedBuffer own;
  std::span<std::byte> into = current_request().room;
  if (into.size() < size) {
    own = AlignedBuffer(size);
    into = own.span();
  }
  auto const n =
      node->layer().read(node->inode, static_cast<std::uint64_t>(offset), into.first(size));
  if (!n) return reply_error(req, mount, n.error());
  node->served->counters().add_read(*n);
  mount.totals.add_read(*n);
  touch_atime(mount, *node);
  fuse_reply_buf(req, reinterpret_cast<char const*>(into.data()), *n);
}

void op_write(fuse_req_t req, fuse_ino_t ino, char const* data, std::size_t size, off_t offset,
              fuse_file_info* fi) {
  static_cast<void>(fi);
  Mount& mount = mount_of(req);
  auto const written = [&]() -> Result<std::size_t> {
    LCFS_TRY_ASSIGN(Node const node, mount.node(ino));
    auto const* const raw = current_request().body<fuse_write_in>();
    // The kernel checked privileges before it cached the data (writeback).
    std::uint32_t const flags = raw == nullptr ? 0 : raw->write_flags;
    if ((flags & FUSE_WRITE_CACHE) == 0)
      LCFS_TRY(settle_privileges(req, node, (flags & kWriteKillSuidgid) != 0));
    LCFS_TRY_ASSIGN(std::size_t const n,
                    node.layer().write(node.inode, static_cast<std::uint64_t>(offset),
                                       std::as_bytes(std::span{data, size})));
    node.served->counters().add_written(n);
    mount.totals.add_written(n);
    mount.wrote(n);
    return n;
  }();
  if (!written) return reply_error(req, mount, written.error());
  fuse_reply_write(req, *written);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* fi) {
  static_cast<void>(data_only);
  static_cast<void>(fi);
  Mount& mount = mount_of(req);
  if (mount.is_virtual(ino)) return reply_status(req, mount, mount.store.checkpoint());
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  reply_status(req, mount, node->layer().fsync(node->inode));
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  fuse_file_info* fi) {
  static_cast<void>(fi);
  Mount& mount = mount_of(req);
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  Allocate how = Allocate::kExtend;
  switch (mode) {
    case 0: break;
    case FALLOC_FL_KEEP_SIZE: how = Allocate::kKeepSize; break;
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE: how = Allocate::kPunchHole; break;
    case FALLOC_FL_ZERO_RANGE: how = Allocate::kZeroRange; break;
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE: how = Allocate::kZeroRangeKeepSize; break;
    case FALLOC_FL_COLLAPSE_RANGE: how = Allocate::kCollapse; break;
    case FALLOC_FL_INSERT_RANGE: how = Allocate::kInsert; break;
    default: return static_cast<void>(fuse_reply_err(req, EOPNOTSUPP));
  }
  // This request has no flag for the privileges that a write clears (KILLPRIV_V2).
  if (auto settled = settle_privileges(req, *node, fuse_req_ctx(req)->uid != 0); !settled)
    return reply_error(req, mount, settled.error());
  reply_status(req, mount,
               node->layer().allocate(node->inode, how, static_cast<std::uint64_t>(offset),
                                      static_cast<std::uint64_t>(length)));
}

void op_copy_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, fuse_file_info* from_fi,
                   fuse_ino_t to, off_t to_offset, fuse_file_info* to_fi, std::size_t length,
                   int flags) {
  static_cast<void>(from_fi);
  static_cast<void>(to_fi);
  Mount& mount = mount_of(req);
  if (flags != 0) return static_cast<void>(fuse_reply_err(req, EINVAL));
  auto const copied = [&]() -> Result<std::uint64_t> {
    LCFS_TRY_ASSIGN(Node const source, mount.node(from));
    LCFS_TRY_ASSIGN(Node const target, mount.node(to));
    // As for fallocate: the request has no flag for the privileges that a write clears.
    LCFS_TRY(settle_privileges(req, target, fuse_req_ctx(req)->uid != 0));
    auto const at = static_cast<std::uint64_t>(from_offset),
               into = static_cast<std::uint64_t>(to_offset);
    std::uint64_t const most = std::min<std::uint64_t>(length, 1u << 30);  // the answer has 32 bits
    if (source.served == target.served)
      return target.layer().copy_range(source.inode, at, target.inode, into, most);
    return target.layer().copy_range(source.layer(), source.inode, at, target.inode, into, most);
  }();
  if (!copied) return reply_error(req, mount, copied.error());
  fuse_reply_write(req, *copied);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* fi) {
  static_cast<void>(fi);
  Mount& mount = mount_of(req);
  // With writeback, data that the kernel still caches would look like holes.  After this answer it
  // treats whole files as data and does not ask again.
  if (mount.options.writeback.value_or(false))
    return static_cast<void>(fuse_reply_err(req, ENOSYS));
  if (mount.is_virtual(ino) || (whence != SEEK_DATA && whence != SEEK_HOLE))
    return static_cast<void>(fuse_reply_err(req, EINVAL));
  if (offset < 0) return static_cast<void>(fuse_reply_err(req, ENXIO));
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  auto const found = node->layer().seek(node->inode, static_cast<std::uint64_t>(offset),
                                        whence == SEEK_DATA ? Whence::kData : Whence::kHole);
  if (!found) return reply_error(req, mount, found.error());
  fuse_reply_lseek(req, static_cast<off_t>(*found));
}

}  // namespace lcfs::mount
