// SPDX-License-Identifier: Apache-2.0
// Attributes, extended attributes, and statfs.
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "mount/acl.h"
#include "mount/caller.h"
#include "mount/mount_table.h"
#include "mount/opcodes.h"
#include "mount/ops.h"

namespace lcfs::mount {
namespace {

constexpr std::string_view kOwnPrefix = "user.lcfs.";  // computed when read by name, never listed

bool known_namespace(std::string_view name) {
  return name.starts_with("user.") || name.starts_with("trusted.") ||
         name.starts_with("security.") || name == kAclAccess || name == kAclDefault;
}

// The layer that last changed the file: the lowest one above which its inode is unchanged.  Layers
// keep the inode numbers of their parents, and a file that an image's layer replaces gets a new
// one.
Result<std::string> origin(Mount& mount, Node const& node) {
  LCFS_TRY_ASSIGN(auto const here, node.layer().getattr(node.inode));
  LCFS_TRY_ASSIGN(auto at, mount.store.layer_info(node.layer().id()));
  while (at.parent != 0) {
    auto const below = mount.store.layer(at.parent);
    if (!below) break;  // removed meanwhile
    auto was = (*below)->getattr(node.inode);
    if (was) was->info.atime = here.info.atime;
    if (!was || was->info != here.info) break;
    LCFS_TRY_ASSIGN(at, mount.store.layer_info(at.parent));
  }
  return at.name;
}

// user.lcfs.layer and user.lcfs.extents.
Result<std::string> own_xattr(Mount& mount, Node const& node, std::string_view name) {
  name.remove_prefix(kOwnPrefix.size());
  if (name == "layer") return origin(mount, node);
  if (name != "extents") return fs_error(ENODATA);
  LCFS_TRY_ASSIGN(auto const runs, node.layer().runs(node.inode));
  std::string text;
  for (auto const& run : runs) {
    auto const owner = mount.store.layer_info(run.owner);
    text += fmt::format("{} {} {} {}\n", run.file_offset, run.device_offset, run.length,
                        owner ? owner->name : std::to_string(run.owner));
    if (text.size() > 60000) break;  // an xattr holds 64 KiB
  }
  return text;
}

void reply_value(fuse_req_t req, std::string_view value, std::size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, value.size());
  } else if (value.size() > size) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, value.data(), value.size());
  }
}

// After chmod the ACL matches the mode.
Status chmod_acl(Node const& node, std::uint32_t mode) {
  auto const now = node.layer().getxattr(node.inode, kAclAccess);
  if (!now) return now.error().sys == ENODATA ? Status{} : Status{now.error()};
  LCFS_TRY_ASSIGN(Acl acl, Acl::parse(*now));
  acl.set_mode(mode);
  return node.layer().setxattr(node.inode, kAclAccess, acl.bytes(), XattrMode::kAny);
}

// An access ACL contains the mode; a trivial one contains nothing else.
Status set_access_acl(Node const& node, std::string_view value, bool clear_sgid) {
  LCFS_TRY_ASSIGN(Acl const acl, Acl::parse(value));
  LCFS_TRY_ASSIGN(Attr const attr, node.layer().getattr(node.inode));
  std::uint32_t mode =
      (attr.info.mode & 07000) | (value.size() <= 4 ? attr.info.mode & 0777 : acl.mode());
  if (clear_sgid) mode &= ~static_cast<std::uint32_t>(S_ISGID);
  if (acl.trivial()) {
    auto const removed = node.layer().removexattr(node.inode, kAclAccess);
    if (!removed && removed.error().sys != ENODATA) return removed;
  } else {
    LCFS_TRY(node.layer().setxattr(node.inode, kAclAccess, value, XattrMode::kAny));
  }
  if (mode == (attr.info.mode & 07777)) return {};
  SetAttr set;
  set.permissions = mode;
  LCFS_TRY(node.layer().setattr(node.inode, set));
  return {};
}

Status set_xattr(fuse_req_t req, Node const& node, std::string_view name, std::string_view value,
                 int flags) {
  if (!known_namespace(name)) return fs_error(EOPNOTSUPP);
  if (name.starts_with(kOwnPrefix)) return fs_error(EPERM);
  if (name == kAclAccess)
    return set_access_acl(node, value,
                          (current_request().setxattr_flags & kSetxattrAclKillSgid) != 0);
  if (name == kAclDefault) {
    LCFS_TRY_ASSIGN(Attr const attr, node.layer().getattr(node.inode));
    if (!S_ISDIR(attr.info.mode)) return fs_error(EACCES);
    LCFS_TRY(Acl::parse(value));
  }
  static_cast<void>(req);
  XattrMode const mode = (flags & XATTR_CREATE) != 0    ? XattrMode::kCreate
                         : (flags & XATTR_REPLACE) != 0 ? XattrMode::kReplace
                                                        : XattrMode::kAny;
  return node.layer().setxattr(node.inode, name, value, mode);
}

struct Looked {
  struct stat st {};
  double timeout = kForever;
  std::optional<Timestamp> born{};
};

Result<Looked> look(Mount& mount, NodeId id) {
  Looked out;
  if (mount.is_virtual(id)) {
    LCFS_TRY_ASSIGN(out.st, mount.pseudo.getattr(id));
    return out;
  }
  LCFS_TRY_ASSIGN(Node const node, mount.node(id));
  LCFS_TRY_ASSIGN(Attr const attr, node.layer().getattr(node.inode));
  out.st = mount.stat_of(*node.served, attr);
  out.timeout = attr_timeout(mount, *node.served, attr);
  out.born = attr.info.btime;
  return out;
}

Timestamp timestamp_of(timespec const& t) {
  return {t.tv_sec, static_cast<std::uint32_t>(t.tv_nsec)};
}

// The request does not contain supplementary groups.  /proc lists them for processes that are
// visible to us.
bool in_group(fuse_req_t req, std::uint32_t group) {
  if (fuse_req_ctx(req)->gid == group) return true;
  std::vector<gid_t> groups(64);
  int count = fuse_req_getgroups(req, static_cast<int>(groups.size()), groups.data());
  if (count > static_cast<int>(groups.size())) {
    groups.resize(static_cast<std::size_t>(count));
    count = std::min(count, fuse_req_getgroups(req, count, groups.data()));
  }
  return count > 0 &&
         std::find(groups.begin(), groups.begin() + count, group) != groups.begin() + count;
}

// The mode bits that chown(2) clears on an executable file: suid, and sgid where the group can
// execute.
std::uint32_t without_privileges(std::uint32_t mode) {
  if (S_ISDIR(mode)) return mode & 07777;
  mode &= ~static_cast<std::uint32_t>(S_ISUID);
  if ((mode & S_IXGRP) != 0) mode &= ~static_cast<std::uint32_t>(S_ISGID);
  return mode & 07777;
}

// The engine keeps set-group-ID on files that their group cannot execute.  A caller outside the
// group clears it there too, as on other file systems (setattr_should_drop_sgid() in the kernel).
Status drop_privileges(fuse_req_t req, Node const& node) {
  LCFS_TRY(node.layer().clear_privileges(node.inode));
  LCFS_TRY_ASSIGN(Attr const attr, node.layer().getattr(node.inode));
  auto const& info = attr.info;
  if (!S_ISREG(info.mode) || (info.mode & S_ISGID) == 0 || in_group(req, info.gid)) return {};
  SetAttr set;
  set.permissions = info.mode & 07777 & ~static_cast<std::uint32_t>(S_ISGID);
  LCFS_TRY(node.layer().setattr(node.inode, set));
  return {};
}

}  // namespace

Status settle_privileges(fuse_req_t req, Node const& node, bool kernel_says) {
  if (!kernel_says) {
    LCFS_TRY_ASSIGN(Attr const attr, node.layer().getattr(node.inode));
    bool const something = S_ISREG(attr.info.mode) && (attr.info.mode & (S_ISUID | S_ISGID)) != 0;
    if (!something || keeps_privileges(*current_request().header)) return {};
  }
  return drop_privileges(req, node);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  static_cast<void>(fi);
  Mount& mount = mount_of(req);
  auto const looked = look(mount, ino);
  if (!looked) return reply_error(req, mount, looked.error());
  fuse_reply_attr(req, &looked->st, looked->timeout);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* fi) {
  static_cast<void>(fi);
  Mount& mount = mount_of(req);
  double timeout = kForever;
  auto const changed = [&]() -> Result<struct stat> {
    LCFS_TRY_ASSIGN(Node const node, mount.node(ino));
    Layer& layer = node.layer();
    SetAttr set;
    if ((to_set & FUSE_SET_ATTR_MODE) != 0) set.permissions = attr->st_mode & 07777;
    if ((to_set & FUSE_SET_ATTR_UID) != 0) set.uid = attr->st_uid;
    if ((to_set & FUSE_SET_ATTR_GID) != 0) set.gid = attr->st_gid;
    if ((to_set & FUSE_SET_ATTR_SIZE) != 0) set.size = static_cast<std::uint64_t>(attr->st_size);
    if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0)
      set.atime = now_timestamp();
    else if ((to_set & FUSE_SET_ATTR_ATIME) != 0)
      set.atime = timestamp_of(attr->st_atim);
    if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0)
      set.mtime = now_timestamp();
    else if ((to_set & FUSE_SET_ATTR_MTIME) != 0)
      set.mtime = timestamp_of(attr->st_mtim);
    if ((to_set & FUSE_SET_ATTR_CTIME) != 0) set.ctime = timestamp_of(attr->st_ctim);

    auto const* const raw = current_request().body<fuse_setattr_in>();
    bool const chowned = set.uid || set.gid;
    if (set.size)
      LCFS_TRY(
          settle_privileges(req, node, raw != nullptr && (raw->valid & kSetattrKillSuidgid) != 0));
    if (chowned && !set.permissions) {
      LCFS_TRY_ASSIGN(Attr const before, layer.getattr(node.inode));
      auto const mode = without_privileges(before.info.mode);
      if (mode != (before.info.mode & 07777)) set.permissions = mode;
      if (!S_ISDIR(before.info.mode)) LCFS_TRY(layer.clear_privileges(node.inode));
    } else if (set.permissions) {
      LCFS_TRY(chmod_acl(node, *set.permissions));
    }
    LCFS_TRY_ASSIGN(Attr const after, layer.setattr(node.inode, set));
    timeout = attr_timeout(mount, *node.served, after);
    return mount.stat_of(*node.served, after);
  }
  ();
  if (!changed) return reply_error(req, mount, changed.error());
  fuse_reply_attr(req, &*changed, timeout);
}

// getattr with the birth time, which the files of the server itself do not have.
void op_statx(Mount& mount) {
  Request& request = current_request();
  fuse_out_header out{sizeof(fuse_out_header), 0, request.header->unique};
  StatxOut body{};
  auto const looked = look(mount, request.header->nodeid);
  if (looked) {
    auto const& st = looked->st;
    auto const time_of = [](timespec const& t) {
      return StatxTime{t.tv_sec, static_cast<std::uint32_t>(t.tv_nsec), 0};
    };
    body.attr_valid = static_cast<std::uint64_t>(looked->timeout);
    body.mask = STATX_BASIC_STATS;
    body.blksize = kBlockSize;
    body.nlink = static_cast<std::uint32_t>(st.st_nlink);
    body.uid = st.st_uid;
    body.gid = st.st_gid;
    body.mode = static_cast<std::uint16_t>(st.st_mode);
    body.ino = st.st_ino;
    body.size = static_cast<std::uint64_t>(st.st_size);
    body.blocks = static_cast<std::uint64_t>(st.st_blocks);
    body.atime = time_of(st.st_atim);
    body.mtime = time_of(st.st_mtim);
    body.ctime = time_of(st.st_ctim);
    body.rdev_major = major(st.st_rdev);
    body.rdev_minor = minor(st.st_rdev);
    if (looked->born) {
      body.mask |= STATX_BTIME;
      body.btime = {looked->born->sec, looked->born->nsec, 0};
    }
    out.len += static_cast<std::uint32_t>(sizeof body);
  } else {
    out.error = -mount.errno_of(looked.error(), request.served.get());
  }
  request.failed = out.error != 0;
  iovec const parts[] = {{&out, sizeof out}, {&body, sizeof body}};
  request.route->reply(parts, out.error == 0 ? 2 : 1);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino) {
  Mount& mount = mount_of(req);
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  auto const target = node->layer().readlink(node->inode);
  if (!target) return reply_error(req, mount, target.error());
  fuse_reply_readlink(req, target->c_str());
}

// The size of a layer is its quota; without one, what the store has room for.
void op_statfs(fuse_req_t req, fuse_ino_t ino) {
  Mount& mount = mount_of(req);
  auto const space = mount.store.space();
  struct statvfs out {};
  out.f_bsize = out.f_frsize = kBlockSize;
  out.f_namemax = 255;
  // Pending space and space of restore points count as available: a write that needs them waits for
  // the checkpoints that free them.
  std::uint64_t const all = space.free + space.pending + space.history,
                      free = all - std::min(space.promised, all);
  out.f_blocks = space.total;
  out.f_bfree = all;
  out.f_bavail = free;
  if (!mount.is_virtual(ino)) {
    auto const node = mount.node(ino);
    if (!node) return reply_error(req, mount, node.error());
    if (auto const of_layer = mount.store.layer_space(node->layer().id())) {
      if (of_layer->quota != 0) {
        std::uint64_t const used = of_layer->own + of_layer->promised;
        out.f_blocks = of_layer->quota;
        out.f_bfree = out.f_bavail =
            std::min(free, of_layer->quota - std::min(used, of_layer->quota));
      }
      out.f_files = of_layer->inodes;
    }
  }
  // Inodes are created on demand, so only space limits their number.
  out.f_ffree = out.f_favail = out.f_bavail * 16;
  out.f_files += out.f_ffree;
  fuse_reply_statfs(req, &out);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, char const* name, char const* value,
                 std::size_t size, int flags) {
  Mount& mount = mount_of(req);
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  reply_status(req, mount, set_xattr(req, *node, name, {value, size}, flags));
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, char const* name, std::size_t size) {
  Mount& mount = mount_of(req);
  std::string_view const text = name;
  if (text == kAccessXattr && mount.options.pseudo)
    return reply_value(req, mount.options.read_only() ? "ro" : "rw", size);
  if (text == kOptionsXattr && mount.options.pseudo)
    return reply_value(req, own_text(mount.options), size);
  if (mount.is_virtual(ino)) return static_cast<void>(fuse_reply_err(req, ENODATA));
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  if (!known_namespace(text)) return static_cast<void>(fuse_reply_err(req, EOPNOTSUPP));
  auto const value = text.starts_with(kOwnPrefix) && mount.options.pseudo
                         ? own_xattr(mount, *node, text)
                         : node->layer().getxattr(node->inode, text);
  if (!value) return reply_error(req, mount, value.error());
  reply_value(req, *value, size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, std::size_t size) {
  Mount& mount = mount_of(req);
  if (mount.is_virtual(ino)) return reply_value(req, {}, size);
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  auto const names = node->layer().listxattr(node->inode);
  if (!names) return reply_error(req, mount, names.error());
  bool const root = fuse_req_ctx(req)->uid == 0;
  std::string list;
  for (auto const& name : *names) {
    if (name.starts_with("trusted.") && !root) continue;  // xattr(7)
    list += name;
    list += '\0';
  }
  reply_value(req, list, size);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, char const* name) {
  Mount& mount = mount_of(req);
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  if (!known_namespace(name)) return static_cast<void>(fuse_reply_err(req, EOPNOTSUPP));
  auto removed = node->layer().removexattr(node->inode, name);
  // Removing an ACL that the mode fully expresses is not an error (acl_delete_def_file(3), setfacl
  // -b).
  std::string_view const text = name;
  if (!removed && removed.error().sys == ENODATA && (text == kAclAccess || text == kAclDefault))
    removed = Status{};
  reply_status(req, mount, removed);
}

}  // namespace lcfs::mount
