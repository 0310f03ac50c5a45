// SPDX-License-Identifier: Apache-2.0
// Layers: inodes and attributes.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "engine/layer_change.h"
#include "engine/layer_pages.h"

namespace lcfs {

LayerImpl::LayerImpl(StoreImpl& store, LayerInfo const& info)
    : store_(store),
      id_(info.id),
      root_inode_(info.root_inode),
      frozen_(info.state == LayerState::kFrozen),
      space_(store.space, info.id),
      tree_(store.cache, space_, info.root),
      own_blocks_(info.own_blocks),
      used_blocks_(info.used_blocks),
      inodes_(info.inodes) {
  quota_.set_limit(info.quota_blocks);
  quota_.set_own(info.own_blocks);
}

Status LayerImpl::check_changeable() const {
  if (frozen_.load(std::memory_order_relaxed)) return fs_error(EROFS);
  if (discarded_) return fs_error(ESTALE);
  return store_.check_writable();
}

Status LayerImpl::begin_change(Urgency urgency) {
  LCFS_TRY(check_changeable());
  if (!dirty_) {
    LCFS_TRY(store_.space.check_reserve(urgency));
    Lock lock(store_.dirty_mu);
    tree_.set_generation(store_.generation);
    store_.dirty_layers.push_back(shared_from_this());
    dirty_ = true;
  }
  return {};
}

void LayerImpl::count_nodes() {
  own_blocks_ =
      static_cast<std::uint64_t>(static_cast<std::int64_t>(own_blocks_) + space_.take_net());
  quota_.set_own(own_blocks_);
  used_blocks_ =
      static_cast<std::uint64_t>(static_cast<std::int64_t>(used_blocks_) + tree_.take_used_delta());
}

void LayerImpl::free_blocks(std::uint64_t block, std::uint64_t count, std::uint64_t owner) {
  used_blocks_ -= count;
  if (owner == id())
    space_.free({block, count});  // inherited blocks are just no longer pointed to (I3)
}

Status LayerImpl::spill_if_large() {
  if (tree_.dirty_nodes() * kNodeSize <= store_.options.dirty_nodes) return {};
  // Written early, and changed again only by copy: memory stays bounded however much one generation
  // changes (I7).
  return store_.write_nodes(tree_.seal());
}

Status LayerImpl::make_root(Owner owner) {
  // Not change(): the caller has the structure lock, so room can't be made here.
  WriteLock lock(mu_);
  LCFS_TRY_ASSIGN(auto promised, promise(kOperationBlocks, Urgency::kOrdinary));
  LCFS_TRY(begin_change(Urgency::kOrdinary));
  space_.set_payer(&promised);
  std::uint64_t const before = tree_.changes();
  InodeInfo root;
  root.mode = S_IFDIR | 0755;
  root.nlink = 2;
  root.uid = owner.uid;
  root.gid = owner.gid;
  root.atime = root.mtime = root.ctime = root.btime = now_timestamp();
  ++inodes_;
  return end_change(tree_.put({root_inode_, kInode, 0}, encode_inode(root)), before);
}

// ---------------------------------------------------------------------------------------------------------------
// Inodes

LayerImpl::FileState* LayerImpl::state(Inode inode) {
  auto it = files_.find(inode);
  return it == files_.end() ? nullptr : it->second.get();
}

LayerImpl::FileState const* LayerImpl::peek(Inode inode) const {
  auto it = files_.find(inode);
  return it == files_.end() ? nullptr : it->second.get();
}

LayerImpl::FileState& LayerImpl::make_state(Inode inode) {
  auto& slot = files_[inode];
  if (!slot) slot = std::make_unique<FileState>();
  return *slot;
}

void LayerImpl::drop_state_if_idle(Inode inode) {
  auto it = files_.find(inode);
  if (it == files_.end()) return;
  auto const& f = *it->second;
  if (f.opens == 0 && !f.held && !f.attr_dirty && f.pages.empty()) files_.erase(it);
}

Result<InodeInfo> LayerImpl::load(Inode inode) const {
  if (discarded_) return fs_error(ESTALE);
  if (auto const* f = peek(inode); f != nullptr && f->attr_dirty) return f->attr;
  LCFS_TRY_ASSIGN(auto const found, tree_.get({inode, kInode, 0}));
  if (!found) return fs_error(ENOENT);
  return parse_inode(found->key, found->value);
}

Result<InodeInfo> LayerImpl::load_near(Tree::Cursor& cursor, Inode inode) const {
  if (discarded_) return fs_error(ESTALE);
  if (auto const* f = peek(inode); f != nullptr && f->attr_dirty) return f->attr;
  Key const key{inode, kInode, 0};
  LCFS_TRY(cursor.seek_near(key));
  if (!cursor.valid() || cursor.key() != key) return fs_error(ENOENT);
  return parse_inode(key, cursor.value());
}

Result<InodeInfo> LayerImpl::load_dir(Inode inode) const {
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  if (!S_ISDIR(info.mode)) return fs_error(ENOTDIR);
  return info;
}

Status LayerImpl::store(Inode inode, InodeInfo const& info) {
  // While data is not placed, the record in the tree must not say more than the tree has: the
  // attributes wait with the data.
  if (auto* f = state(inode); f != nullptr && f->dirty_pages != 0) {
    f->attr = info;
    f->attr_dirty = true;
    dirty_files_.insert(inode);
    return {};
  }
  if (auto* f = state(inode); f != nullptr) f->attr_dirty = false;
  return tree_.put({inode, kInode, 0}, encode_inode(info));
}

// Blocks are given to data late, but who has written a file wants to see them.
Attr LayerImpl::shown(Inode inode, InodeInfo info) const {
  auto const* f = peek(inode);
  if (f == nullptr || f->dirty_pages == 0) return {inode, info};
  if (info.size <= kInlineMax && info.blocks == 0)
    return {inode, info};  // it will stand in its leaf
  info.blocks = std::max(info.blocks,
                         std::min(info.blocks + f->dirty_pages, round_up(info.size) / kBlockSize));
  return {inode, info, false};
}

Result<Attr> LayerImpl::getattr(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  return shown(inode, info);
}

Result<Attr> LayerImpl::setattr(Inode inode, SetAttr const& set) {
  bool const shrinks = set.size.has_value();
  return change(kOperationBlocks, shrinks ? Urgency::kEmergency : Urgency::kOrdinary,
                [&]() LCFS_NO_TSA -> Result<Attr> {
                  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
                  auto const now = now_timestamp();
                  if (set.size) {
                    if (S_ISDIR(info.mode)) return fs_error(EISDIR);
                    if (!S_ISREG(info.mode)) return fs_error(EINVAL);
                    if (*set.size > kMaxFileSize) return fs_error(EFBIG);
                    LCFS_TRY(do_truncate(inode, info, *set.size));
                    info.mtime = now;
                  }
                  if (set.permissions)
                    info.mode = (info.mode & S_IFMT) | (*set.permissions & 07777);
                  if (set.uid) info.uid = *set.uid;
                  if (set.gid) info.gid = *set.gid;
                  if (set.atime) info.atime = *set.atime;
                  if (set.mtime) info.mtime = *set.mtime;
                  info.ctime = set.ctime ? *set.ctime : now;
                  LCFS_TRY(store(inode, info));
                  return shown(inode, info);
                });
}

// What Linux does in setattr_should_drop_suidgid(), and its security modules beside it.
Status LayerImpl::clear_privileges(Inode inode) {
  constexpr std::string_view kCapability = "security.capability";
  std::optional<Key> capability;
  std::uint32_t drop = 0;
  auto look = [&]() LCFS_NO_TSA -> Result<InodeInfo> {
    Tree::Cursor cursor(tree_);
    LCFS_TRY_ASSIGN(InodeInfo info, load_near(cursor, inode));
    drop = 0;
    capability.reset();
    if (!S_ISREG(info.mode)) return info;
    drop = info.mode & S_ISUID;
    if ((info.mode & S_IXGRP) != 0) drop |= info.mode & S_ISGID;
    LCFS_TRY_ASSIGN(capability, find_xattr(cursor, inode, kCapability, nullptr));
    return info;
  };
  {
    ReadLock lock(mu_);
    LCFS_TRY(look());
    if (drop == 0 && !capability) return {};
  }
  return change(kOperationBlocks, Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Status {
    LCFS_TRY_ASSIGN(InodeInfo info, look());
    if (drop == 0 && !capability) return {};
    if (capability) LCFS_TRY(erase_xattr(*capability));
    info.mode &= ~drop;
    info.ctime = now_timestamp();
    return store(inode, info);
  });
}

Status LayerImpl::remove_inode(Inode inode) {
  if (auto* f = state(inode)) {
    drop_pages(*f, 0, ~0ull);
    unhold(*f);
    dirty_files_.erase(inode);
    files_.erase(inode);
  }
  return remove_inodes(inode, inode);
}

Status LayerImpl::remove_inodes(Inode first, Inode last) {
  inodes_ -= last - first + 1;
  return tree_.erase_range(
      {first, 0, 0}, {last, 0xff, ~0ull}, [&](Key const& key, Bytes value) LCFS_NO_TSA -> Status {
        if (key.kind != kExtent) return {};
        LCFS_TRY_ASSIGN(auto const extent, parse_extent(key, value, store_.space.total()));
        free_blocks(extent.block, extent.count, extent.owner);
        return {};
      });
}

Status LayerImpl::fsync(Inode inode) {
  {
    ReadLock lock(mu_);
    LCFS_TRY(load(inode));
  }
  return store_.checkpoint(false);
}

}  // namespace lcfs
