// SPDX-License-Identifier: Apache-2.0
// Layers: inodes and attributes.
#include <sys/stat.h>

#include <cerrno>

#include "engine/layer/layer_change.h"

namespace lcfs {

LayerImpl::LayerImpl(StoreImpl& store, LayerInfo const& info)
    : store_(store),
      reader_(store.device, *store.ahead, store.options.verify_data),
      id_(info.id),
      root_inode_(info.root_inode),
      frozen_(info.state == LayerState::kFrozen),
      tree_({store.cache, store.space, store.device, store.hash_seed}, info),
      files_(tree_, store.space, quota_, reader_, store.dirty_bytes),
      open_(held_) {
  quota_.set_limit(info.quota_blocks);
  quota_.set_own(info.own_blocks);
}

Status LayerImpl::check_changeable() const {
  if (frozen_.load(std::memory_order_relaxed)) return fs_error(EROFS);
  if (discarded_) return fs_error(ESTALE);
  return store_.health.check_writable();
}

Status LayerImpl::begin_change(Urgency urgency) {
  LCFS_TRY(check_changeable());
  if (!dirty_) {
    LCFS_TRY(store_.space.check_reserve(urgency));
    tree_.set_generation(store_.dirty.add(shared_from_this()));
    dirty_ = true;
  }
  return {};
}

Result<Reservation> LayerImpl::reserve(std::uint64_t blocks, Urgency urgency) {
  return Reservation::make(store_.space, blocks, urgency, &quota_);
}

Status LayerImpl::spill_if_large() {
  if (!tree_.dirty_beyond(store_.options.dirty_nodes)) return {};
  return store_.writeback.nodes(tree_.seal());
}

Status LayerImpl::make_root(Owner owner) {
  // Not change(): the caller holds the structure lock, so no room can be made here.
  WriteLock lock(mu_);
  LCFS_TRY_ASSIGN(auto reserved, reserve(kOperationBlocks, Urgency::kOrdinary));
  LCFS_TRY(begin_change(Urgency::kOrdinary));
  tree_.set_payer(&reserved);
  std::uint64_t const before = tree_.changes();
  InodeInfo root;
  root.mode = S_IFDIR | 0755;
  root.nlink = 2;
  root.uid = owner.uid;
  root.gid = owner.gid;
  root.atime = root.mtime = root.ctime = root.btime = now_timestamp();
  return end_change(tree_.add_inode(root_inode_, root), before);
}

// Inodes ------------------------------------------------------------------------------------------

Result<InodeInfo> LayerImpl::load(Inode inode) const {
  if (discarded_) return fs_error(ESTALE);
  return files_.get_inode(inode);
}

Result<InodeInfo> LayerImpl::load_near(Tree::Cursor& cursor, Inode inode) const {
  if (discarded_) return fs_error(ESTALE);
  return files_.get_inode_near(cursor, inode);
}

Result<InodeInfo> LayerImpl::load_dir(Inode inode) const {
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  if (!S_ISDIR(info.mode)) return fs_error(ENOTDIR);
  return info;
}

Result<Attr> LayerImpl::getattr(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  return files_.shown(inode, info);
}

Result<Attr> LayerImpl::setattr(Inode inode, SetAttr const& set) {
  auto const urgency = set.size ? Urgency::kEmergency : Urgency::kOrdinary;
  return change(kOperationBlocks, urgency, [&]() LCFS_REQUIRES(mu_) -> Result<Attr> {
    LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
    auto const now = now_timestamp();
    if (set.size) {
      if (S_ISDIR(info.mode)) return fs_error(EISDIR);
      if (!S_ISREG(info.mode)) return fs_error(EINVAL);
      if (*set.size > kMaxFileSize) return fs_error(EFBIG);
      LCFS_TRY(files_.truncate(inode, info, *set.size));
      info.mtime = now;
    }
    if (set.permissions) info.mode = (info.mode & S_IFMT) | (*set.permissions & 07777);
    if (set.uid) info.uid = *set.uid;
    if (set.gid) info.gid = *set.gid;
    if (set.atime) info.atime = *set.atime;
    if (set.mtime) info.mtime = *set.mtime;
    info.ctime = set.ctime ? *set.ctime : now;
    LCFS_TRY(files_.put_inode(inode, info));
    return files_.shown(inode, info);
  });
}

// What Linux does in setattr_should_drop_suidgid(), and its security modules beside it.
Result<LayerImpl::Privileges> LayerImpl::privileges(Inode inode) const {
  constexpr std::string_view kCapability = "security.capability";
  auto cursor = tree_.cursor();
  Privileges out;
  LCFS_TRY_ASSIGN(out.info, load_near(cursor, inode));
  if (!S_ISREG(out.info.mode)) return out;
  out.bits = out.info.mode & S_ISUID;
  if ((out.info.mode & S_IXGRP) != 0) out.bits |= out.info.mode & S_ISGID;
  LCFS_TRY_ASSIGN(out.capability, tree_.find_xattr(cursor, inode, kCapability));
  return out;
}

Status LayerImpl::clear_privileges(Inode inode) {
  {
    ReadLock lock(mu_);
    LCFS_TRY_ASSIGN(auto const has, privileges(inode));
    if (!has.any()) return {};
  }
  return change(kOperationBlocks, Urgency::kOrdinary, [&]() LCFS_REQUIRES(mu_) -> Status {
    LCFS_TRY_ASSIGN(auto has, privileges(inode));
    if (!has.any()) return {};
    if (has.capability) LCFS_TRY(tree_.erase_xattr(*has.capability));
    has.info.mode &= ~has.bits;
    has.info.ctime = now_timestamp();
    return files_.put_inode(inode, has.info);
  });
}

Status LayerImpl::remove_inode(Inode inode) {
  files_.erase(inode);
  open_.erase(inode);
  return tree_.remove_inodes(inode, inode);
}

Status LayerImpl::fsync(Inode inode) {
  {
    ReadLock lock(mu_);
    LCFS_TRY(load(inode));
  }
  return store_.checkpointer.run(false);
}

}  // namespace lcfs
