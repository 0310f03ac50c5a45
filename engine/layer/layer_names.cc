// SPDX-License-Identifier: Apache-2.0
// Layers: directories and names.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "engine/layer/layer_change.h"

namespace lcfs {

namespace {

Status check_name(std::string_view name) {
  if (name.empty()) return fs_error(ENOENT);
  if (name.size() > kMaxName) return fs_error(ENAMETOOLONG);
  if (name == "." || name == "..") return fs_error(EEXIST);
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return fs_error(EINVAL);
  return {};
}

constexpr std::uint32_t kMaxLinks = 0x7fffffff;

}  // namespace

Result<Attr> LayerImpl::lookup(Inode directory, std::string_view name) {
  ReadLock lock(mu_);
  Inode inode = directory;
  bool const dots = name == "." || name == "..";
  if (dots) LCFS_TRY(load_dir(directory));
  if (name == "..") {
    LCFS_TRY_ASSIGN(inode, tree_.parent_of(directory));
  } else if (!dots) {
    LCFS_TRY_ASSIGN(auto const entry, tree_.find_entry(directory, name));
    if (!entry) {
      LCFS_TRY(load_dir(directory));  // needed only here: whatever has an entry is a directory
      return fs_error(ENOENT);
    }
    inode = entry->inode;
  }
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  return files_.shown(inode, info);
}

Result<Inode> LayerImpl::parent_of(Inode directory) {
  ReadLock lock(mu_);
  return tree_.parent_of(directory);
}

Result<std::vector<std::pair<Inode, std::string>>> LayerImpl::names_of(Inode inode) {
  ReadLock lock(mu_);
  return tree_.names_of(inode);
}

Result<std::string> LayerImpl::readlink(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  if (!S_ISLNK(info.mode)) return fs_error(EINVAL);
  LCFS_TRY_ASSIGN(auto const found, tree_.inline_data(inode));
  if (!found || found->value.size() != info.size)
    return Error::corrupt("symlink without its target").in(store_.device.name());
  return std::string(reinterpret_cast<char const*>(found->value.data()), found->value.size());
}

Result<Attr> LayerImpl::new_inode(Inode directory, std::string_view name, NewNode const& node,
                                  std::string_view target) {
  LCFS_TRY(check_name(name));
  LCFS_TRY_ASSIGN(InodeInfo dir, load_dir(directory));
  if (dir.nlink == 0) return fs_error(ENOENT);
  LCFS_TRY_ASSIGN(Key const entry_key, tree_.new_entry(directory, name));
  bool const is_dir = S_ISDIR(node.mode);
  if (is_dir && dir.nlink >= kMaxLinks) return fs_error(EMLINK);
  InodeInfo info;
  info.mode = node.mode;
  info.nlink = is_dir ? 2 : 1;
  info.uid = node.uid;
  info.gid = node.gid;
  if (S_ISCHR(node.mode) || S_ISBLK(node.mode)) info.rdev = node.rdev;
  if ((dir.mode & S_ISGID) != 0) {  // BSD group semantics, as inode_init_owner() of Linux has them
    info.gid = dir.gid;
    if (is_dir) info.mode |= S_ISGID;
  }
  info.size = target.size();
  info.atime = info.mtime = info.ctime = info.btime = now_timestamp();
  Inode const inode = store_.ids.take_inodes(1);
  LCFS_TRY(tree_.put_entry(entry_key, inode, info.mode, name));
  // Numbers only grow, and those of other layers are never put into this tree: new records stand
  // behind all others.
  LCFS_TRY(tree_.append_inode(inode, info));
  LCFS_TRY(tree_.append_back_reference(inode, tree_.back_reference_hash(directory, name), directory,
                                       name));
  LCFS_TRY(put_new_xattrs(inode, node));
  if (!target.empty()) LCFS_TRY(tree_.put_inline(inode, as_bytes(target)));
  ++dir.size;
  if (is_dir) ++dir.nlink;
  dir.mtime = dir.ctime = info.ctime;
  LCFS_TRY(files_.put_inode(directory, dir));
  return Attr{inode, info};
}

Result<Attr> LayerImpl::create(Inode directory, std::string_view name, NewNode const& node) {
  switch (node.mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK: break;
    default: return fs_error(EINVAL);
  }
  if ((node.mode & ~(static_cast<std::uint32_t>(S_IFMT) | 07777u)) != 0) return fs_error(EINVAL);
  LCFS_TRY(check_new_xattrs(node));
  return change(new_node_blocks(node), Urgency::kOrdinary,
                [&]() LCFS_REQUIRES(mu_) { return new_inode(directory, name, node, {}); });
}

Result<Attr> LayerImpl::symlink(Inode directory, std::string_view name, std::string_view target,
                                NewNode const& node) {
  if (target.empty()) return fs_error(ENOENT);
  if (target.size() > kMaxSymlink) return fs_error(ENAMETOOLONG);
  if (target.find('\0') != std::string_view::npos) return fs_error(EINVAL);
  LCFS_TRY(check_new_xattrs(node));
  NewNode n = node;
  n.mode = S_IFLNK | 0777;
  return change(
      new_node_blocks(node), Urgency::kOrdinary,
      [&]() LCFS_REQUIRES(mu_) -> Result<Attr> { return new_inode(directory, name, n, target); });
}

Result<Attr> LayerImpl::tmpfile(NewNode const& node) {
  if (!S_ISREG(node.mode)) return fs_error(EINVAL);
  LCFS_TRY(check_new_xattrs(node));
  return change(new_node_blocks(node), Urgency::kOrdinary,
                [&]() LCFS_REQUIRES(mu_) { return do_tmpfile(node); });
}

Result<Attr> LayerImpl::do_tmpfile(NewNode const& node) {
  InodeInfo info;
  info.mode = node.mode & (S_IFMT | 07777u);
  info.uid = node.uid;
  info.gid = node.gid;
  info.atime = info.mtime = info.ctime = info.btime = now_timestamp();
  Inode const inode = store_.ids.take_inodes(1);
  LCFS_TRY(tree_.add_inode(inode, info));
  LCFS_TRY(put_new_xattrs(inode, node));
  LCFS_TRY(tree_.add_orphan(inode));
  open_.set_linkable(inode);
  if (open_.holding()) {
    open_.hold(inode);
  } else {
    open_.open(inode);
  }
  return Attr{inode, info};
}

Result<Attr> LayerImpl::link(Inode inode, Inode directory, std::string_view name) {
  return change(kOperationBlocks, Urgency::kOrdinary,
                [&]() LCFS_REQUIRES(mu_) { return do_link(inode, directory, name); });
}

Result<Attr> LayerImpl::do_link(Inode inode, Inode directory, std::string_view name) {
  LCFS_TRY(check_name(name));
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  if (S_ISDIR(info.mode)) return fs_error(EPERM);
  if (info.nlink >= kMaxLinks) return fs_error(EMLINK);
  bool const nameless = info.nlink == 0;
  if (nameless && !open_.get(inode).linkable) return fs_error(ENOENT);
  LCFS_TRY_ASSIGN(InodeInfo dir, load_dir(directory));
  if (dir.nlink == 0) return fs_error(ENOENT);
  LCFS_TRY_ASSIGN(auto const there, tree_.find_entry(directory, name));
  if (there) return fs_error(EEXIST);
  LCFS_TRY(tree_.add_name(directory, name, inode, info.mode));
  if (nameless) {
    LCFS_TRY(tree_.remove_orphan(inode));
    open_.linked(inode);
  }
  ++info.nlink;
  info.ctime = now_timestamp();
  LCFS_TRY(files_.put_inode(inode, info));
  files_.drop_if_idle(inode);
  ++dir.size;
  dir.mtime = dir.ctime = info.ctime;
  LCFS_TRY(files_.put_inode(directory, dir));
  return files_.shown(inode, info);
}

Status LayerImpl::do_unlink(Inode directory, std::string_view name, bool want_directory) {
  if (name == ".") return fs_error(EINVAL);
  if (name == "..") return fs_error(ENOTEMPTY);
  LCFS_TRY_ASSIGN(InodeInfo dir, load_dir(directory));
  LCFS_TRY_ASSIGN(auto const entry, tree_.find_entry(directory, name));
  if (!entry) return fs_error(ENOENT);
  Inode const inode = entry->inode;
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  bool const is_dir = S_ISDIR(info.mode);
  if (want_directory && !is_dir) return fs_error(ENOTDIR);
  if (!want_directory && is_dir) return fs_error(EISDIR);
  if (is_dir && info.size != 0) return fs_error(ENOTEMPTY);
  LCFS_TRY(tree_.erase_entry(entry->key));
  // With its last name goes the inode, and all its records with it.
  bool const goes = (is_dir || info.nlink == 1) && !kept_alive(inode);
  if (!goes) LCFS_TRY(tree_.remove_back_reference(directory, name, inode));
  auto const now = now_timestamp();
  --dir.size;
  if (is_dir) --dir.nlink;
  dir.mtime = dir.ctime = now;
  LCFS_TRY(files_.put_inode(directory, dir));
  info.ctime = now;
  info.nlink = is_dir ? 0 : info.nlink - 1;
  if (info.nlink == 0) return unlinked(inode, info);
  return files_.put_inode(inode, info);
}

// While space is low, removals of what only the layer owns may use more of the reserve than others:
// only they free what they take (Urgency).
Urgency LayerImpl::removal(Inode directory, std::string_view name) const {
  if (!store_.space.low()) return Urgency::kEmergency;
  ReadLock lock(mu_);
  return tree_.owns_name(directory, name) ? Urgency::kOwnRemoval : Urgency::kEmergency;
}

Status LayerImpl::unlink(Inode directory, std::string_view name) {
  return change(kOperationBlocks, removal(directory, name),
                [&]() LCFS_REQUIRES(mu_) { return do_unlink(directory, name, false); });
}

Status LayerImpl::rmdir(Inode directory, std::string_view name) {
  return change(kOperationBlocks, removal(directory, name),
                [&]() LCFS_REQUIRES(mu_) { return do_unlink(directory, name, true); });
}

Status LayerImpl::rename(Inode from, std::string_view name, Inode to, std::string_view new_name,
                         Rename how, Owner whiteout) {
  return change(2 * kOperationBlocks, Urgency::kOrdinary, [&]() LCFS_REQUIRES(mu_) -> Status {
    return do_rename(from, name, to, new_name, how, whiteout);
  });
}

Status LayerImpl::do_rename(Inode from, std::string_view name, Inode to, std::string_view new_name,
                            Rename how, Owner whiteout) {
  for (auto const n : {name, new_name}) {
    if (n == "." || n == "..") return fs_error(EBUSY);
    LCFS_TRY(check_name(n));
  }
  LCFS_TRY(load_dir(from));
  LCFS_TRY_ASSIGN(InodeInfo const to_info, load_dir(to));
  if (to_info.nlink == 0) return fs_error(ENOENT);
  LCFS_TRY_ASSIGN(auto const source, tree_.find_entry(from, name));
  if (!source) return fs_error(ENOENT);
  Inode const moved = source->inode;
  LCFS_TRY_ASSIGN(auto const target, tree_.find_entry(to, new_name));
  Inode const replaced = target ? target->inode : 0;  // 0: the name is free
  LCFS_TRY_ASSIGN(InodeInfo moved_info, load(moved));
  bool const moves_dir = S_ISDIR(moved_info.mode);
  if (how == Rename::kNoReplace && replaced != 0) return fs_error(EEXIST);
  if (how == Rename::kExchange && replaced == 0) return fs_error(ENOENT);
  if (moves_dir && from != to) {
    LCFS_TRY_ASSIGN(bool const loop, tree_.is_inside(to, moved));
    if (loop) return fs_error(EINVAL);
  } else if (moves_dir && to == moved) {
    return fs_error(EINVAL);
  }
  if (replaced == moved) return {};  // POSIX: of two links of one file, do nothing
  auto const now = now_timestamp();
  InodeInfo replaced_info;
  if (replaced != 0) {
    LCFS_TRY_ASSIGN(replaced_info, load(replaced));
    bool const onto_dir = S_ISDIR(replaced_info.mode);
    if (how == Rename::kExchange) {
      if (onto_dir && from != to) {
        LCFS_TRY_ASSIGN(bool const loop, tree_.is_inside(from, replaced));
        if (loop) return fs_error(EINVAL);
      }
    } else {
      // A directory that holds `from` is not empty, so it is not replaced: there is no loop.
      if (onto_dir && !moves_dir) return fs_error(EISDIR);
      if (!onto_dir && moves_dir) return fs_error(ENOTDIR);
      if (onto_dir && replaced_info.size != 0) return fs_error(ENOTEMPTY);
    }
  }
  // Changes begin.  Each step leaves sizes and link counts right, so their order does not matter.
  auto adjust = [&](Inode directory, std::int64_t entries, std::int64_t subdirs)
                    LCFS_REQUIRES(mu_) -> Status {
    LCFS_TRY_ASSIGN(InodeInfo d, load(directory));
    d.size = static_cast<std::uint64_t>(static_cast<std::int64_t>(d.size) + entries);
    d.nlink = static_cast<std::uint32_t>(static_cast<std::int64_t>(d.nlink) + subdirs);
    d.mtime = d.ctime = now;
    return files_.put_inode(directory, d);
  };
  LCFS_TRY(tree_.remove_name(from, name, moved));
  LCFS_TRY(adjust(from, -1, moves_dir ? -1 : 0));
  if (replaced != 0) {
    LCFS_TRY(tree_.remove_name(to, new_name, replaced));
    LCFS_TRY(adjust(to, -1, S_ISDIR(replaced_info.mode) ? -1 : 0));
  }
  LCFS_TRY(tree_.add_name(to, new_name, moved, moved_info.mode));
  LCFS_TRY(adjust(to, 1, moves_dir ? 1 : 0));
  moved_info.ctime = now;
  LCFS_TRY(files_.put_inode(moved, moved_info));
  if (how == Rename::kExchange) {
    LCFS_TRY(tree_.add_name(from, name, replaced, replaced_info.mode));
    LCFS_TRY(adjust(from, 1, S_ISDIR(replaced_info.mode) ? 1 : 0));
    replaced_info.ctime = now;
    return files_.put_inode(replaced, replaced_info);
  }
  if (replaced != 0) {
    replaced_info.ctime = now;
    replaced_info.nlink = S_ISDIR(replaced_info.mode) ? 0 : replaced_info.nlink - 1;
    LCFS_TRY(replaced_info.nlink == 0 ? unlinked(replaced, replaced_info)
                                      : files_.put_inode(replaced, replaced_info));
  }
  if (how == Rename::kWhiteout) {
    LCFS_TRY(new_inode(from, name, NewNode{S_IFCHR, whiteout.uid, whiteout.gid, 0}, {}));
  }
  return {};
}

// Listing -----------------------------------------------------------------------------------------

// At most `most` entries behind `cookie`.
Status LayerImpl::list(Inode directory, std::uint64_t cookie, std::size_t most, bool attrs,
                       std::vector<Listed>& into) const {
  ReadLock lock(mu_);
  auto cursor = tree_.cursor();
  LCFS_TRY_ASSIGN(InodeInfo const info, load_near(cursor, directory));
  if (!S_ISDIR(info.mode)) return fs_error(ENOTDIR);
  into.reserve(most);
  LCFS_TRY(
      tree_.next_entries(cursor, directory, cookie, most, [&](Key const& key, DirentInfo const& d) {
        into.push_back({{d.inode, d.type, std::string(d.name), key.offset}, {}});
      }));
  if (!attrs) return {};
  // Entries come in the order of their hashes, but files that were made together stand together: in
  // the order of their numbers, one leaf has many of them.
  std::vector<Listed*> by_inode;
  by_inode.reserve(into.size());
  for (auto& l : into) by_inode.push_back(&l);
  std::sort(by_inode.begin(), by_inode.end(),
            [](Listed const* a, Listed const* b) { return a->entry.inode < b->entry.inode; });
  for (auto* l : by_inode) {
    LCFS_TRY_ASSIGN(InodeInfo const of_entry, load_near(cursor, l->entry.inode));
    l->attr = files_.shown(l->entry.inode, of_entry);
  }
  return {};
}

// In batches, so that the lock is not held while the caller works; cookies make them seamless.
// Small ones first: a server's reply may hold only a few.
template <class Take>
Status LayerImpl::walk(Inode directory, std::uint64_t cookie, bool attrs, Take const& take) const {
  constexpr std::size_t kFirst = 32, kMost = 256;
  std::vector<Listed> batch;
  for (std::size_t most = kFirst;; most = std::min(most * 2, kMost)) {
    batch.clear();
    LCFS_TRY(list(directory, cookie, most, attrs, batch));
    for (auto const& l : batch) {
      if (!take(l)) return {};
    }
    if (batch.size() < most) return {};
    cookie = batch.back().entry.cookie;
  }
}

Status LayerImpl::readdir(Inode directory, std::uint64_t cookie,
                          std::function<bool(DirEntry const&)> const& take) {
  return walk(directory, cookie, false, [&](Listed const& l) { return take(l.entry); });
}

Status LayerImpl::readdir_attrs(Inode directory, std::uint64_t cookie,
                                std::function<bool(DirEntry const&, Attr const&)> const& take) {
  return walk(directory, cookie, true, [&](Listed const& l) { return take(l.entry, l.attr); });
}

}  // namespace lcfs
