// SPDX-License-Identifier: Apache-2.0
// Layers: directories and names.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "engine/layer_change.h"
#include "engine/probe.h"

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

std::uint8_t dirent_type(std::uint32_t mode) {
  return static_cast<std::uint8_t>((mode & S_IFMT) >> 12);
}

constexpr std::uint32_t kMaxLinks = 0x7fffffff;

}  // namespace

Result<std::optional<DirentInfo>> LayerImpl::find_entry(Inode directory, std::string_view name,
                                                        Record& hold) const {
  if (name.size() > kMaxName) return fs_error(ENAMETOOLONG);
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, value));
    return d.name == name;
  };
  LCFS_TRY_ASSIGN(auto p,
                  probe(tree_, {directory, kDirent, name_key(store_.hash_seed, name)}, 1, match));
  if (!p.found) return std::optional<DirentInfo>{};
  hold = std::move(*p.found);
  LCFS_TRY_ASSIGN(DirentInfo const d, parse_dirent(hold.key, hold.value));
  return std::optional<DirentInfo>(d);
}

Result<Attr> LayerImpl::lookup(Inode directory, std::string_view name) {
  ReadLock lock(mu_);
  Inode inode = directory;
  bool const dots = name == "." || name == "..";
  if (dots) LCFS_TRY(load_dir(directory));
  if (name == "..") {
    LCFS_TRY_ASSIGN(inode, parent_locked(directory));
  } else if (!dots) {
    Record hold;
    LCFS_TRY_ASSIGN(auto const entry, find_entry(directory, name, hold));
    if (!entry) {
      LCFS_TRY(load_dir(directory));  // only a directory has entries: who found one knows
      return fs_error(ENOENT);
    }
    inode = entry->inode;
  }
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  return shown(inode, info);
}

Result<Inode> LayerImpl::parent_of(Inode directory) {
  ReadLock lock(mu_);
  return parent_locked(directory);
}

Result<std::vector<std::pair<Inode, std::string>>> LayerImpl::names_of(Inode inode) {
  ReadLock lock(mu_);
  std::vector<std::pair<Inode, std::string>> out;
  LCFS_TRY(scan(tree_, {inode, kParent, 0}, {inode, kParent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const p, parse_parent(key, value));
                  out.emplace_back(p.directory, p.name);
                  return true;
                }));
  return out;
}

Result<Inode> LayerImpl::parent_locked(Inode directory) const {
  if (directory == root_inode_) return directory;
  Tree::Cursor c(tree_);
  LCFS_TRY(c.seek({directory, kParent, 0}));
  if (!c.valid() || c.key().inode != directory || c.key().kind != kParent) return fs_error(ENOENT);
  LCFS_TRY_ASSIGN(auto const p, parse_parent(c.key(), c.value()));
  return p.directory;
}

Result<bool> LayerImpl::is_inside(Inode directory, Inode ancestor) const {
  for (Inode at = directory;;) {
    if (at == ancestor) return true;
    if (at == root_inode_) return false;
    LCFS_TRY_ASSIGN(at, parent_locked(at));
  }
}

Result<std::string> LayerImpl::readlink(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  if (!S_ISLNK(info.mode)) return fs_error(EINVAL);
  LCFS_TRY_ASSIGN(auto const found, tree_.get({inode, kInline, 0}));
  if (!found || found->value.size() != info.size) {
    return Error{Errc::kCorrupt, "symlink without its target", 0, store_.device.name(), kNoOffset};
  }
  return std::string(reinterpret_cast<char const*>(found->value.data()), found->value.size());
}

// Where the entry of a new name goes; EEXIST if it is there.
Result<Key> LayerImpl::free_entry(Inode directory, std::string_view name) const {
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, value));
    return d.name == name;
  };
  LCFS_TRY_ASSIGN(auto const p,
                  probe(tree_, {directory, kDirent, name_key(store_.hash_seed, name)}, 1, match));
  if (p.found) return fs_error(EEXIST);
  if (!p.free) return fs_error(ENOSPC);
  return *p.free;
}

// Puts the entry and the child's back-reference.  The directory's size and times are the caller's.
Status LayerImpl::add_entry(Inode directory, std::string_view name, Inode inode,
                            std::uint32_t mode) {
  auto never = [](Key const&, Bytes) -> Result<bool> { return false; };
  LCFS_TRY_ASSIGN(auto const at,
                  probe(tree_, {directory, kDirent, name_key(store_.hash_seed, name)}, 1, never));
  LCFS_TRY_ASSIGN(
      auto const back,
      probe(tree_, {inode, kParent, parent_key(store_.hash_seed, directory, name)}, 1, never));
  if (!at.free || !back.free) return fs_error(ENOSPC);
  LCFS_TRY(tree_.put(*at.free, as_bytes(encode_dirent({inode, dirent_type(mode), name}))));
  return tree_.put(*back.free, as_bytes(encode_parent({directory, name})));
}

Status LayerImpl::remove_entry(Inode directory, std::string_view name, Inode inode) {
  Record hold;
  LCFS_TRY_ASSIGN(auto const entry, find_entry(directory, name, hold));
  if (!entry)
    return Error{Errc::kCorrupt, "directory entry vanished", 0, store_.device.name(), kNoOffset};
  Key const entry_key = hold.key;
  hold = {};
  LCFS_TRY(tree_.erase_range(entry_key, entry_key, nullptr));
  return remove_back_reference(directory, name, inode);
}

Status LayerImpl::remove_back_reference(Inode directory, std::string_view name, Inode inode) {
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const p, parse_parent(key, value));
    return p.directory == directory && p.name == name;
  };
  LCFS_TRY_ASSIGN(
      auto const back,
      probe(tree_, {inode, kParent, parent_key(store_.hash_seed, directory, name)}, 1, match));
  if (!back.found)
    return Error{Errc::kCorrupt, "entry without back-reference", 0, store_.device.name(),
                 kNoOffset};
  Key const back_key = back.found->key;
  return tree_.erase_range(back_key, back_key, nullptr);
}

Result<Attr> LayerImpl::new_inode(Inode directory, std::string_view name, NewNode const& node,
                                  std::string_view target) {
  LCFS_TRY(check_name(name));
  LCFS_TRY_ASSIGN(InodeInfo dir, load_dir(directory));
  if (dir.nlink == 0) return fs_error(ENOENT);
  LCFS_TRY_ASSIGN(Key const entry_key, free_entry(directory, name));
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
  Inode const inode = store_.next_inode.fetch_add(1);
  LCFS_TRY(tree_.put(entry_key, as_bytes(encode_dirent({inode, dirent_type(info.mode), name}))));
  // Numbers only grow, and those of other layers are never put into this tree: new records stand
  // behind all others.
  LCFS_TRY(tree_.append({inode, kInode, 0}, encode_inode(info)));
  LCFS_TRY(tree_.append({inode, kParent, parent_key(store_.hash_seed, directory, name)},
                        as_bytes(encode_parent({directory, name}))));
  LCFS_TRY(put_new_xattrs(inode, node));
  if (!target.empty()) LCFS_TRY(tree_.put({inode, kInline, 0}, as_bytes(target)));
  ++inodes_;
  ++dir.size;
  if (is_dir) ++dir.nlink;
  dir.mtime = dir.ctime = info.ctime;
  LCFS_TRY(store(directory, dir));
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
                [&]() LCFS_NO_TSA -> Result<Attr> { return new_inode(directory, name, node, {}); });
}

Result<Attr> LayerImpl::symlink(Inode directory, std::string_view name, std::string_view target,
                                NewNode const& node) {
  if (target.empty()) return fs_error(ENOENT);
  if (target.size() > kMaxSymlink) return fs_error(ENAMETOOLONG);
  if (target.find('\0') != std::string_view::npos) return fs_error(EINVAL);
  LCFS_TRY(check_new_xattrs(node));
  NewNode n = node;
  n.mode = S_IFLNK | 0777;
  return change(new_node_blocks(node), Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Result<Attr> {
    return new_inode(directory, name, n, target);
  });
}

Result<Attr> LayerImpl::tmpfile(NewNode const& node) {
  if (!S_ISREG(node.mode)) return fs_error(EINVAL);
  LCFS_TRY(check_new_xattrs(node));
  return change(new_node_blocks(node), Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Result<Attr> {
    InodeInfo info;
    info.mode = node.mode & (S_IFMT | 07777u);
    info.uid = node.uid;
    info.gid = node.gid;
    info.atime = info.mtime = info.ctime = info.btime = now_timestamp();
    Inode const inode = store_.next_inode.fetch_add(1);
    LCFS_TRY(tree_.put({inode, kInode, 0}, encode_inode(info)));
    LCFS_TRY(put_new_xattrs(inode, node));
    LCFS_TRY(tree_.put({0, kOrphan, inode}, {}));
    ++inodes_;
    auto& f = make_state(inode);
    f.linkable = true;
    if (holding_) {
      hold(f);
    } else {
      ++f.opens;
    }
    return Attr{inode, info};
  });
}

Result<Attr> LayerImpl::link(Inode inode, Inode directory, std::string_view name) {
  return change(kOperationBlocks, Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Result<Attr> {
    LCFS_TRY(check_name(name));
    LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
    if (S_ISDIR(info.mode)) return fs_error(EPERM);
    if (info.nlink >= kMaxLinks) return fs_error(EMLINK);
    auto* const f = state(inode);
    if (info.nlink == 0 && (f == nullptr || !f->linkable)) return fs_error(ENOENT);
    LCFS_TRY_ASSIGN(InodeInfo dir, load_dir(directory));
    if (dir.nlink == 0) return fs_error(ENOENT);
    Record hold;
    LCFS_TRY_ASSIGN(auto const there, find_entry(directory, name, hold));
    if (there) return fs_error(EEXIST);
    hold = {};
    LCFS_TRY(add_entry(directory, name, inode, info.mode));
    if (info.nlink == 0) {
      LCFS_TRY(tree_.erase({0, kOrphan, inode}));
      f->linkable = false;
      unhold(*f);
    }
    ++info.nlink;
    info.ctime = now_timestamp();
    LCFS_TRY(store(inode, info));
    if (f != nullptr) drop_state_if_idle(inode);
    ++dir.size;
    dir.mtime = dir.ctime = info.ctime;
    LCFS_TRY(store(directory, dir));
    return shown(inode, info);
  });
}

Status LayerImpl::do_unlink(Inode directory, std::string_view name, bool want_directory) {
  if (name == ".") return fs_error(EINVAL);
  if (name == "..") return fs_error(ENOTEMPTY);
  LCFS_TRY_ASSIGN(InodeInfo dir, load_dir(directory));
  Record hold;
  LCFS_TRY_ASSIGN(auto const entry, find_entry(directory, name, hold));
  if (!entry) return fs_error(ENOENT);
  Inode const inode = entry->inode;
  Key const entry_key = hold.key;
  hold = {};
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  bool const is_dir = S_ISDIR(info.mode);
  if (want_directory && !is_dir) return fs_error(ENOTDIR);
  if (!want_directory && is_dir) return fs_error(EISDIR);
  if (is_dir && info.size != 0) return fs_error(ENOTEMPTY);
  LCFS_TRY(tree_.erase_range(entry_key, entry_key, nullptr));
  // With its last name goes the inode, and all its records with it.
  bool const goes = (is_dir || info.nlink == 1) && !kept_alive(inode);
  if (!goes) LCFS_TRY(remove_back_reference(directory, name, inode));
  auto const now = now_timestamp();
  --dir.size;
  if (is_dir) --dir.nlink;
  dir.mtime = dir.ctime = now;
  LCFS_TRY(store(directory, dir));
  info.ctime = now;
  info.nlink = is_dir ? 0 : info.nlink - 1;
  if (info.nlink == 0) return unlinked(inode, info);
  return store(inode, info);
}

// A name of which all records are in nodes of the layer itself: those that go with it are copied,
// if they are, in place of others that are given back.
bool LayerImpl::is_own(Inode directory, std::string_view name) const {
  ReadLock lock(mu_);
  Record hold;
  auto const entry = find_entry(directory, name, hold);
  if (!entry || !*entry) return false;
  auto own = [&](Key const& key) LCFS_NO_TSA {
    Tree::Cursor c(tree_);
    if (!c.seek_floor(key) || (!c.valid() && !c.seek(key)))
      return false;  // orphans come before all else
    return c.valid() && c.node()->read().header().owner.get() == id();
  };
  Inode const inode = (*entry)->inode;
  return own(hold.key) && own({directory, kInode, 0}) && own({inode, kInode, 0}) &&
         own({inode, kParent, parent_key(store_.hash_seed, directory, name)}) &&
         own({0, kOrphan, inode});
}

Urgency LayerImpl::removal(Inode directory, std::string_view name) const {
  return store_.space.low() && is_own(directory, name) ? Urgency::kOwnRemoval : Urgency::kEmergency;
}

Status LayerImpl::unlink(Inode directory, std::string_view name) {
  return change(kOperationBlocks, removal(directory, name),
                [&]() LCFS_NO_TSA -> Status { return do_unlink(directory, name, false); });
}

Status LayerImpl::rmdir(Inode directory, std::string_view name) {
  return change(kOperationBlocks, removal(directory, name),
                [&]() LCFS_NO_TSA -> Status { return do_unlink(directory, name, true); });
}

Status LayerImpl::rename(Inode from, std::string_view name, Inode to, std::string_view new_name,
                         Rename how, Owner whiteout) {
  return change(2 * kOperationBlocks, Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Status {
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
  Record hold;
  LCFS_TRY_ASSIGN(auto const source, find_entry(from, name, hold));
  if (!source) return fs_error(ENOENT);
  Inode const moved = source->inode;
  LCFS_TRY_ASSIGN(auto const target, find_entry(to, new_name, hold));
  Inode const replaced = target ? target->inode : 0;  // 0: the name is free
  hold = {};
  LCFS_TRY_ASSIGN(InodeInfo moved_info, load(moved));
  bool const moves_dir = S_ISDIR(moved_info.mode);
  if (how == Rename::kNoReplace && replaced != 0) return fs_error(EEXIST);
  if (how == Rename::kExchange && replaced == 0) return fs_error(ENOENT);
  if (moves_dir && from != to) {
    LCFS_TRY_ASSIGN(bool const loop, is_inside(to, moved));
    if (loop) return fs_error(EINVAL);
  } else if (moves_dir && to == moved) {
    return fs_error(EINVAL);
  }
  if (replaced == moved) return {};  // POSIX: two links of one file; nothing happens
  auto const now = now_timestamp();
  InodeInfo replaced_info;
  if (replaced != 0) {
    LCFS_TRY_ASSIGN(replaced_info, load(replaced));
    bool const onto_dir = S_ISDIR(replaced_info.mode);
    if (how == Rename::kExchange) {
      if (onto_dir && from != to) {
        LCFS_TRY_ASSIGN(bool const loop, is_inside(from, replaced));
        if (loop) return fs_error(EINVAL);
      }
    } else {
      // A directory that holds `from` can't be empty, so it can't be replaced: no loop to look for.
      if (onto_dir && !moves_dir) return fs_error(EISDIR);
      if (!onto_dir && moves_dir) return fs_error(ENOTDIR);
      if (onto_dir && replaced_info.size != 0) return fs_error(ENOTEMPTY);
    }
  }
  // Changes begin.  Each step leaves sizes and link counts right, so the order between them does
  // not matter.
  auto adjust = [&](Inode directory, std::int64_t entries, std::int64_t subdirs)
                    LCFS_NO_TSA -> Status {
    LCFS_TRY_ASSIGN(InodeInfo d, load(directory));
    d.size = static_cast<std::uint64_t>(static_cast<std::int64_t>(d.size) + entries);
    d.nlink = static_cast<std::uint32_t>(static_cast<std::int64_t>(d.nlink) + subdirs);
    d.mtime = d.ctime = now;
    return store(directory, d);
  };
  LCFS_TRY(remove_entry(from, name, moved));
  LCFS_TRY(adjust(from, -1, moves_dir ? -1 : 0));
  if (replaced != 0) {
    LCFS_TRY(remove_entry(to, new_name, replaced));
    LCFS_TRY(adjust(to, -1, S_ISDIR(replaced_info.mode) ? -1 : 0));
  }
  LCFS_TRY(add_entry(to, new_name, moved, moved_info.mode));
  LCFS_TRY(adjust(to, 1, moves_dir ? 1 : 0));
  moved_info.ctime = now;
  LCFS_TRY(store(moved, moved_info));
  if (how == Rename::kExchange) {
    LCFS_TRY(add_entry(from, name, replaced, replaced_info.mode));
    LCFS_TRY(adjust(from, 1, S_ISDIR(replaced_info.mode) ? 1 : 0));
    replaced_info.ctime = now;
    return store(replaced, replaced_info);
  }
  if (replaced != 0) {
    replaced_info.ctime = now;
    replaced_info.nlink = S_ISDIR(replaced_info.mode) ? 0 : replaced_info.nlink - 1;
    LCFS_TRY(replaced_info.nlink == 0 ? unlinked(replaced, replaced_info)
                                      : store(replaced, replaced_info));
  }
  if (how == Rename::kWhiteout) {
    LCFS_TRY(new_inode(from, name, NewNode{S_IFCHR, whiteout.uid, whiteout.gid, 0}, {}));
  }
  return {};
}

// ---------------------------------------------------------------------------------------------------------------
// Listing

// At most `most` entries behind `cookie`.
Status LayerImpl::list(Inode directory, std::uint64_t cookie, std::size_t most, bool attrs,
                       std::vector<Listed>& into) const {
  ReadLock lock(mu_);
  Tree::Cursor cursor(tree_);
  LCFS_TRY_ASSIGN(InodeInfo const info, load_near(cursor, directory));
  if (!S_ISDIR(info.mode)) return fs_error(ENOTDIR);
  if (cookie == ~0ull) return {};
  into.reserve(most);
  LCFS_TRY(cursor.seek_near({directory, kDirent, cookie + 1}));
  while (into.size() < most && cursor.valid() && cursor.key().inode == directory &&
         cursor.key().kind == kDirent) {
    Key const key = cursor.key();
    LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, cursor.value()));
    into.push_back({{d.inode, d.type, std::string(d.name), key.offset}, {}});
    LCFS_TRY(cursor.next());
  }
  if (!attrs) return {};
  // Entries come in the order of their hashes; files that were made together stand together: by
  // number, a leaf tells of many.
  std::vector<Listed*> by_inode;
  by_inode.reserve(into.size());
  for (auto& l : into) by_inode.push_back(&l);
  std::sort(by_inode.begin(), by_inode.end(),
            [](Listed const* a, Listed const* b) { return a->entry.inode < b->entry.inode; });
  for (auto* l : by_inode) {
    LCFS_TRY_ASSIGN(InodeInfo const of_entry, load_near(cursor, l->entry.inode));
    l->attr = shown(l->entry.inode, of_entry);
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
