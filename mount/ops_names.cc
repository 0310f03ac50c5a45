// SPDX-License-Identifier: Apache-2.0
// Names: lookup, create, link, remove, rename.
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>

#include "mount/acl.h"
#include "mount/opcodes.h"
#include "mount/ops.h"

namespace lcfs::mount {
namespace {

constexpr unsigned kNoReplace = 1, kExchange = 2, kWhiteout = 4;  // renameat2(2)

void make(fuse_req_t req, fuse_ino_t parent, NewFile file) {
  Mount& mount = mount_of(req);
  auto const directory = mount.node(parent);
  if (!directory) return reply_error(req, mount, directory.error());
  fuse_ctx const* const ctx = fuse_req_ctx(req);
  file.uid = ctx->uid;
  file.gid = ctx->gid;
  file.umask = ctx->umask;
  auto const made = make_file(*directory, file);
  if (!made) return reply_error(req, mount, made.error());
  reply_entry(req, mount, *directory->served, *made);
}

void remove(fuse_req_t req, fuse_ino_t parent, char const* name,
            Status (Layer::*how)(Inode, std::string_view)) {
  Mount& mount = mount_of(req);
  auto const directory = mount.node(parent);
  if (!directory) return reply_error(req, mount, directory.error());
  reply_status(req, mount, (directory->layer().*how)(directory->inode, name));
}

void reply_negative(fuse_req_t req) {
  fuse_entry_param entry{};
  entry.entry_timeout = kForever;
  fuse_reply_entry(req, &entry);
}

}  // namespace

void reply_error(fuse_req_t req, Mount& mount, Error const& error) {
  fuse_reply_err(req, mount.errno_of(error, current_request().served.get()));
}

void reply_status(fuse_req_t req, Mount& mount, Status const& status) {
  if (status) {
    fuse_reply_err(req, 0);
  } else {
    reply_error(req, mount, status.error());
  }
}

double attr_timeout(Mount const& mount, Served const& served, Attr const& attr) {
  constexpr double kMoment = 1;
  if (!S_ISREG(attr.info.mode) || served.layer->frozen()) return kForever;
  if ((attr.info.mode & (S_ISUID | S_ISGID)) != 0) return 0;
  return attr.placed && !mount.options.writeback.value_or(false) ? kForever : kMoment;
}

fuse_entry_param entry_of(Mount const& mount, Served const& served, Attr const& attr) {
  fuse_entry_param entry{};
  entry.ino = mount.id_of(served, attr.inode);
  entry.generation = served.generation;
  entry.attr = mount.stat_of(served, attr);
  entry.attr_timeout = attr_timeout(mount, served, attr);
  entry.entry_timeout = served.removed ? 0 : kForever;  // a directory of it can still be in use
  return entry;
}

void reply_entry(fuse_req_t req, Mount& mount, Served& served, Attr const& attr) {
  auto const entry = entry_of(mount, served, attr);
  mount.remember(served, entry.ino);
  if (fuse_reply_entry(req, &entry) != 0) mount.forget(entry.ino, 1);  // the caller was interrupted
}

Result<Attr> make_file(Node const& directory, NewFile const& file) {
  Layer& layer = directory.layer();
  LCFS_TRY_ASSIGN(Attr const parent, layer.getattr(directory.inode));
  NewNode node;
  node.uid = file.uid;
  node.gid = file.gid;
  node.rdev = file.rdev;
  node.mode = file.mode;
  if ((parent.info.mode & S_ISGID) != 0) {  // BSD groups
    node.gid = parent.info.gid;
    if (S_ISDIR(file.mode)) node.mode |= S_ISGID;
  }
  if (S_ISLNK(file.mode)) return layer.symlink(directory.inode, file.name, file.target, node);

  auto const inherited = layer.getxattr(directory.inode, kAclDefault);
  if (inherited) {
    LCFS_TRY_ASSIGN(Acl acl, Acl::parse(*inherited));
    node.mode = acl.inherit(node.mode);
    if (!acl.trivial()) node.xattrs.emplace_back(kAclAccess, acl.bytes());
    if (S_ISDIR(file.mode)) node.xattrs.emplace_back(kAclDefault, *inherited);
  } else if (inherited.error().sys == ENODATA) {
    node.mode &= ~file.umask;
  } else {
    return inherited.error();
  }
  return file.name.empty() ? layer.tmpfile(node) : layer.create(directory.inode, file.name, node);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, char const* name) {
  Mount& mount = mount_of(req);
  if (mount.is_virtual(parent)) return mount.pseudo.lookup(req, parent, name);
  auto const directory = mount.node(parent);
  if (!directory) return reply_error(req, mount, directory.error());
  Layer& layer = directory->layer();
  // The kernel looks up "." of a file, and ".." of a directory, when it opens a file handle
  // (name_to_handle_at(2), NFS).
  bool const dot = std::strcmp(name, ".") == 0;
  auto const attr = dot ? layer.getattr(directory->inode) : layer.lookup(directory->inode, name);
  // The kernel asks because the file is not open.  If it has no name either, it is gone, even
  // before the kernel sends FORGET.
  if (attr && dot && attr->info.nlink == 0) return static_cast<void>(fuse_reply_err(req, ESTALE));
  if (attr) return reply_entry(req, mount, *directory->served, *attr);
  if (attr.error().sys != ENOENT) return reply_error(req, mount, attr.error());
  if (std::strcmp(name, Pseudo::kName) == 0 && directory->inode == directory->served->root)
    return mount.pseudo.lookup_in_layer(req, directory->served);
  reply_negative(req);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t count) {
  mount_of(req).forget(ino, count);
  fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  for (std::size_t i = 0; i < count; ++i) mount_of(req).forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode, dev_t rdev) {
  make(req, parent,
       {.name = name, .mode = mode, .rdev = std::uint64_t{major(rdev)} << 32 | minor(rdev)});
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode) {
  make(req, parent, {.name = name, .mode = (mode & 07777) | S_IFDIR});
}

void op_symlink(fuse_req_t req, char const* target, fuse_ino_t parent, char const* name) {
  make(req, parent, {.name = name, .mode = S_IFLNK | 0777, .target = target});
}

void op_create(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode,
               fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  auto const directory = mount.node(parent);
  if (!directory) return reply_error(req, mount, directory.error());
  fuse_ctx const* const ctx = fuse_req_ctx(req);
  auto const made = make_file(*directory, {.name = name,
                                           .mode = (mode & 07777) | S_IFREG,
                                           .umask = ctx->umask,
                                           .uid = ctx->uid,
                                           .gid = ctx->gid});
  if (!made) return reply_error(req, mount, made.error());
  auto const entry = entry_of(mount, *directory->served, *made);
  fi->keep_cache = 1;
  fi->noflush = 1;
  mount.remember(*directory->served, entry.ino);
  if (fuse_reply_create(req, &entry, fi) != 0) mount.forget(entry.ino, 1);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, char const* name) {
  Mount& mount = mount_of(req);
  auto const file = mount.node(ino);
  if (!file) return reply_error(req, mount, file.error());
  auto const directory = mount.node(parent);
  if (!directory) return reply_error(req, mount, directory.error());
  if (file->served != directory->served) return static_cast<void>(fuse_reply_err(req, EXDEV));
  auto const linked = file->layer().link(file->inode, directory->inode, name);
  if (!linked) return reply_error(req, mount, linked.error());
  reply_entry(req, mount, *file->served, *linked);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, char const* name) {
  remove(req, parent, name, &Layer::unlink);
}
void op_rmdir(fuse_req_t req, fuse_ino_t parent, char const* name) {
  remove(req, parent, name, &Layer::rmdir);
}

void op_rename(fuse_req_t req, fuse_ino_t from, char const* name, fuse_ino_t to,
               char const* new_name, unsigned flags) {
  Mount& mount = mount_of(req);
  auto const source = mount.node(from);
  if (!source) return reply_error(req, mount, source.error());
  auto const target = mount.node(to);
  if (!target) return reply_error(req, mount, target.error());
  if (source->served != target->served) return static_cast<void>(fuse_reply_err(req, EXDEV));
  Rename how = Rename::kReplace;
  switch (flags) {
    case 0: break;
    case kNoReplace: how = Rename::kNoReplace; break;
    case kExchange: how = Rename::kExchange; break;
    case kWhiteout: how = Rename::kWhiteout; break;
    case kWhiteout | kNoReplace: {  // overlayfs does this when the target does not exist
      auto const taken = target->layer().lookup(target->inode, new_name);
      if (taken) return static_cast<void>(fuse_reply_err(req, EEXIST));
      how = Rename::kWhiteout;
      break;
    }
    default: return static_cast<void>(fuse_reply_err(req, EINVAL));
  }
  Owner const whiteout{fuse_req_ctx(req)->uid, fuse_req_ctx(req)->gid};
  reply_status(req, mount,
               source->layer().rename(source->inode, name, target->inode, new_name, how, whiteout));
}

void op_tmpfile(Mount& mount) {
  Request& request = current_request();
  auto const* const in = request.body<fuse_create_in>();
  fuse_out_header out{sizeof(fuse_out_header), -EINVAL, request.header->unique};
  struct {
    fuse_entry_out entry;
    fuse_open_out open;
  } body{};
  static_assert(sizeof body == sizeof(fuse_entry_out) + sizeof(fuse_open_out));
  NodeId id = 0;
  if (in != nullptr) {
    auto const made = [&]() -> Result<NodeId> {
      LCFS_TRY_ASSIGN(Node const directory, mount.node(request.header->nodeid));
      LCFS_TRY_ASSIGN(Attr const attr, make_file(directory, {.mode = (in->mode & 07777) | S_IFREG,
                                                             .umask = in->umask,
                                                             .uid = request.header->uid,
                                                             .gid = request.header->gid}));
      auto const entry = entry_of(mount, *directory.served, attr);
      auto const& st = entry.attr;
      auto& e = body.entry;
      e.nodeid = entry.ino;
      e.generation = entry.generation;
      e.entry_valid = static_cast<std::uint64_t>(entry.entry_timeout);
      e.attr_valid = static_cast<std::uint64_t>(entry.attr_timeout);
      e.attr.ino = st.st_ino;
      e.attr.mode = st.st_mode;
      e.attr.nlink = static_cast<std::uint32_t>(st.st_nlink);
      e.attr.uid = st.st_uid;
      e.attr.gid = st.st_gid;
      e.attr.blksize = kBlockSize;
      e.attr.atime = static_cast<std::uint64_t>(st.st_atim.tv_sec);
      e.attr.mtime = static_cast<std::uint64_t>(st.st_mtim.tv_sec);
      e.attr.ctime = static_cast<std::uint64_t>(st.st_ctim.tv_sec);
      e.attr.atimensec = static_cast<std::uint32_t>(st.st_atim.tv_nsec);
      e.attr.mtimensec = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
      e.attr.ctimensec = static_cast<std::uint32_t>(st.st_ctim.tv_nsec);
      mount.remember(*directory.served, entry.ino);
      return entry.ino;
    }();
    if (made) {
      id = *made;
      body.open.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;
      out.error = 0;
      out.len += static_cast<std::uint32_t>(sizeof body);
    } else {
      out.error = -mount.errno_of(made.error(), request.served.get());
    }
  }
  iovec const parts[] = {{&out, sizeof out}, {&body, sizeof body}};
  if (request.route->reply(parts, out.error == 0 ? 2 : 1) < 0 && id != 0) mount.forget(id, 1);
}

}  // namespace lcfs::mount
