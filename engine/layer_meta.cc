// SPDX-License-Identifier: Apache-2.0
// Layers: life cycle, inodes and attributes.
#include <sys/stat.h>

#include <cerrno>

#include "engine/layer_change.h"

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
      inodes_(info.inodes) {}

LayerImpl::~LayerImpl() = default;

Status LayerImpl::begin_change() {
  if (frozen_.load(std::memory_order_relaxed)) return fs_error(EROFS);
  if (discarded_) return fs_error(ESTALE);
  LCFS_TRY(store_.check_writable());
  if (!dirty_) {
    Lock lock(store_.dirty_mu);
    tree_.set_generation(store_.generation);
    store_.dirty_layers.push_back(shared_from_this());
    dirty_ = true;
  }
  return {};
}

void LayerImpl::count_nodes() {
  own_blocks_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(own_blocks_) + space_.take_net());
  used_blocks_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(used_blocks_) + tree_.take_used_delta());
}

void LayerImpl::free_blocks(std::uint64_t block, std::uint64_t count, std::uint64_t owner) {
  used_blocks_ -= count;
  if (owner == id_) space_.free({block, count});  // inherited blocks are just no longer pointed to (I3)
}

Status LayerImpl::spill_if_large() {
  if (tree_.dirty_nodes() * kNodeSize <= store_.options.dirty_nodes) return {};
  // Written early, and changed again only by copy: memory stays bounded however much one generation changes (I7).
  return store_.write_nodes(tree_.seal());
}

Status LayerImpl::make_root() {
  return change(kOperationBlocks, Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Status {
    InodeInfo root;
    root.mode = S_IFDIR | 0755;
    root.nlink = 2;
    root.atime = root.mtime = root.ctime = root.btime = now_timestamp();
    ++inodes_;
    return tree_.put({root_inode_, kInode, 0}, encode_inode(root));
  });
}

Status LayerImpl::freeze() {
  LCFS_TRY(store_.check_writable());
  IoBatch batch;
  std::uint64_t const ticket = store_.begin_flush();
  Status result = [&]() -> Status {
    WriteLock lock(mu_);
    if (frozen_.load(std::memory_order_relaxed)) return {};
    std::uint64_t const before = tree_.changes();
    // Also a layer that nothing changed becomes dirty: its record does.
    if (auto ok = begin_change(); !ok) return ok;
    LCFS_TRY(end_change(flush_all(batch), before));
    auto nodes = tree_.seal();
    sealed_.insert(sealed_.end(), nodes.begin(), nodes.end());
    frozen_.store(true, std::memory_order_release);
    return {};
  }();
  // Children read inherited data from the device, so it must be there before the first of them can exist.
  return write_out(batch, ticket, std::move(result));
}

Result<Handover> LayerImpl::hand_over() {
  WriteLock lock(mu_);
  Handover h;
  h.id = id_;
  dirty_ = false;
  if (discarded_) return h;
  std::uint64_t const before = tree_.changes();
  LCFS_TRY(end_change(flush_all(h.data), before));
  h.nodes = std::move(sealed_);
  sealed_.clear();
  auto nodes = tree_.seal();
  h.nodes.insert(h.nodes.end(), nodes.begin(), nodes.end());
  space_.return_chunks();
  h.allocated = space_.take_allocated();
  h.freed = space_.take_freed();
  h.root = tree_.root();
  h.own_blocks = own_blocks_;
  h.used_blocks = used_blocks_;
  h.inodes = inodes_;
  return h;
}

void LayerImpl::discard() {
  WriteLock lock(mu_);
  discarded_ = true;
  tree_.abandon();
  sealed_.clear();
  files_.clear();
  dirty_files_.clear();
  count_dirty(-static_cast<std::int64_t>(dirty_pages_));
  // What was taken since the last checkpoint belongs to nothing durable; what was freed stays with the runs that are
  // given back as a whole.  Writes of it may be under way, so it waits like everything freed.
  {
    Lock dirty(store_.dirty_mu);
    store_.space.pend(space_.take_allocated(), store_.generation);
  }
  (void)space_.take_freed();
  space_.return_chunks();
}

std::vector<Extent> LayerImpl::take_space() {
  WriteLock lock(mu_);
  space_.return_chunks();
  auto all = space_.take_allocated();
  auto freed = space_.take_freed();
  normalize(all);
  normalize(freed);
  auto kept = subtract(all, freed);
  store_.space.give_back(freed, false);  // sealed, written and replaced within the same transaction: nobody names them
  return kept;
}

LayerInfo LayerImpl::snapshot(LayerInfo info) const {
  ReadLock lock(mu_);
  info.root = tree_.root();
  info.root_inode = root_inode_;
  info.own_blocks = own_blocks_;
  info.used_blocks = used_blocks_;
  info.inodes = inodes_;
  return info;
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
  if (f.opens == 0 && !f.attr_dirty && f.pages.empty()) files_.erase(it);
}

Result<InodeInfo> LayerImpl::load(Inode inode) const {
  if (discarded_) return fs_error(ESTALE);
  if (auto const* f = peek(inode); f != nullptr && f->attr_dirty) return f->attr;
  LCFS_TRY_ASSIGN(auto const found, tree_.get({inode, kInode, 0}));
  if (!found) return fs_error(ENOENT);
  return parse_inode(found->key, found->value);
}

Result<InodeInfo> LayerImpl::load_dir(Inode inode) const {
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  if (!S_ISDIR(info.mode)) return fs_error(ENOTDIR);
  return info;
}

Status LayerImpl::store(Inode inode, InodeInfo const& info) {
  // While data is not placed, the record in the tree must not say more than the tree has: the attributes wait with the data.
  if (auto* f = state(inode); f != nullptr && f->dirty_pages != 0) {
    f->attr = info;
    f->attr_dirty = true;
    dirty_files_.insert(inode);
    return {};
  }
  if (auto* f = state(inode); f != nullptr) f->attr_dirty = false;
  return tree_.put({inode, kInode, 0}, encode_inode(info));
}

Result<Attr> LayerImpl::getattr(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  return Attr{inode, info};
}

Result<Attr> LayerImpl::setattr(Inode inode, SetAttr const& set) {
  bool const shrinks = set.size.has_value();
  return change(kOperationBlocks, shrinks ? Urgency::kEmergency : Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Result<Attr> {
    LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
    auto const now = now_timestamp();
    if (set.size) {
      if (S_ISDIR(info.mode)) return fs_error(EISDIR);
      if (!S_ISREG(info.mode)) return fs_error(EINVAL);
      if (*set.size > kMaxFileSize) return fs_error(EFBIG);
      LCFS_TRY(do_truncate(inode, info, *set.size));
      info.mtime = now;
    }
    if (set.permissions) info.mode = (info.mode & S_IFMT) | (*set.permissions & 07777);
    if (set.uid) info.uid = *set.uid;
    if (set.gid) info.gid = *set.gid;
    if (set.atime) info.atime = *set.atime;
    if (set.mtime) info.mtime = *set.mtime;
    info.ctime = set.ctime ? *set.ctime : now;
    LCFS_TRY(store(inode, info));
    return Attr{inode, info};
  });
}

Status LayerImpl::open(Inode inode) {
  WriteLock lock(mu_);
  LCFS_TRY(load(inode));
  ++make_state(inode).opens;
  return {};
}

Status LayerImpl::release(Inode inode) {
  auto release_locked = [&]() LCFS_NO_TSA -> Status {
    auto* f = state(inode);
    if (f == nullptr || f->opens == 0) return fs_error(EBADF);
    if (--f->opens != 0) return {};
    auto info = load(inode);
    if (info && info->nlink == 0 && !frozen()) {
      LCFS_TRY(tree_.erase({0, kOrphan, inode}));
      return remove_inode(inode);
    }
    drop_state_if_idle(inode);
    return {};
  };
  {
    // Mostly nothing is to be removed: then no space is promised, and a read-only store or frozen layer is no obstacle.
    WriteLock lock(mu_);
    auto* f = state(inode);
    if (f == nullptr || f->opens == 0) return fs_error(EBADF);
    auto info = load(inode);
    if (f->opens > 1 || !info || info->nlink != 0 || frozen()) return release_locked();
  }
  return change(kOperationBlocks, Urgency::kEmergency, release_locked);
}

Status LayerImpl::unlinked(Inode inode, InodeInfo& info) {
  auto const* f = state(inode);
  if (f == nullptr || f->opens == 0) return remove_inode(inode);
  LCFS_TRY(store(inode, info));
  return tree_.put({0, kOrphan, inode}, {});
}

Status LayerImpl::remove_inode(Inode inode) {
  if (auto* f = state(inode)) {
    drop_pages(*f, 0, ~0ull);
    dirty_files_.erase(inode);
    files_.erase(inode);
  }
  return remove_inodes(inode, inode);
}

Status LayerImpl::remove_inodes(Inode first, Inode last) {
  inodes_ -= last - first + 1;
  return tree_.erase_range({first, 0, 0}, {last, 0xff, ~0ull}, [&](Key const& key, Bytes value) LCFS_NO_TSA -> Status {
    if (key.kind != kExtent) return {};
    LCFS_TRY_ASSIGN(auto const extent, parse_extent(key, value, store_.space.total()));
    free_blocks(extent.block, extent.count, extent.owner);
    return {};
  });
}

Status LayerImpl::remove_orphans() {
  std::vector<Inode> orphans;
  {
    ReadLock lock(mu_);
    if (frozen()) return {};
    LCFS_TRY(scan(tree_, {0, kOrphan, 0}, {0, kOrphan, ~0ull}, [&](Key const& key, Bytes) LCFS_NO_TSA -> Result<bool> {
      if (auto const* f = peek(key.offset); f == nullptr || f->opens == 0) orphans.push_back(key.offset);
      return true;
    }));
  }
  for (Inode const inode : orphans) {
    LCFS_TRY(change(kOperationBlocks, Urgency::kEmergency, [&]() LCFS_NO_TSA -> Status {
      LCFS_TRY(tree_.erase({0, kOrphan, inode}));
      return remove_inode(inode);
    }));
  }
  return {};
}

Status LayerImpl::fsync(Inode inode) {
  {
    ReadLock lock(mu_);
    LCFS_TRY(load(inode));
  }
  return store_.checkpoint(false);
}

}  // namespace lcfs
