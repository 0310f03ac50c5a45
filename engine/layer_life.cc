// SPDX-License-Identifier: Apache-2.0
// Layers: life cycle.  What the store does with a layer as a whole: freeze, hand over, commit,
// remove.
#include <cerrno>

#include "engine/layer_change.h"

namespace lcfs {

LayerImpl::~LayerImpl() {
  if (!removed_) return;
  // Whoever let go of it last may hold any lock, and its base may be the last of a long row: the
  // next checkpoint does the rest.
  Lock lock(store_.gone_mu);
  store_.released.push_back({id(), std::move(base_)});
}

Result<Reservation> LayerImpl::promise(std::uint64_t blocks, Urgency urgency) {
  return Reservation::make(store_.space, blocks, urgency, &quota_);
}

LayerSpace LayerImpl::space_now() const {
  ReadLock lock(mu_);
  return {own_blocks_, quota_.promised(), quota_.limit(), used_blocks_, inodes_};
}

LayerIo LayerImpl::io() const {
  auto const get = [](std::atomic<std::uint64_t> const& n) {
    return n.load(std::memory_order_relaxed);
  };
  return {get(reads_), get(read_bytes_), get(writes_), get(written_bytes_)};
}

Status LayerImpl::freeze(LayerId expected) {
  LCFS_TRY(store_.check_writable());
  IoBatch batch;
  std::uint64_t const ticket = store_.begin_flush();
  Status result = [&]() -> Status {
    WriteLock lock(mu_);
    if (frozen_.load(std::memory_order_relaxed)) return {};
    if (id() != expected) return {};  // a commit came first: what was meant is frozen already
    std::uint64_t const before = tree_.changes();
    // Also a layer that nothing changed becomes dirty: its record does.
    if (auto ok = begin_change(Urgency::kOrdinary); !ok) return ok;
    LCFS_TRY(end_change(flush_all(batch), before));
    auto nodes = tree_.seal();
    sealed_.insert(sealed_.end(), nodes.begin(), nodes.end());
    frozen_.store(true, std::memory_order_release);
    quota_.set_limit(0);
    return {};
  }();
  // Children read inherited data from the device, so it must be there before the first of them can
  // exist.
  return write_out(batch, ticket, std::move(result));
}

// What the layer is, as of now; all that waits for a place has got one.
Status LayerImpl::fill(Handover& h) {
  h.id = id();
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
  return {};
}

Result<Handover> LayerImpl::hand_over() {
  WriteLock lock(mu_);
  Handover h;
  h.id = id();
  dirty_ = false;
  if (discarded_) return h;
  LCFS_TRY(fill(h));
  return h;
}

Result<Handover> LayerImpl::split(LayerId id) {
  WriteLock lock(mu_);
  LCFS_TRY(begin_change(Urgency::kOrdinary));
  Handover h;
  LCFS_TRY(fill(h));
  // All that it owned is the frozen layer's now: inherited, so never freed or changed in place here
  // again (I3).
  id_.store(id, std::memory_order_relaxed);
  space_.set_owner(id);
  own_blocks_ = 0;
  quota_.set_own(0);
  return h;
}

void LayerImpl::removed(std::shared_ptr<LayerImpl> base) {
  WriteLock lock(mu_);
  removed_ = true;
  base_ = std::move(base);
}

void LayerImpl::discard() {
  WriteLock lock(mu_);
  discarded_ = true;
  tree_.abandon();
  for (auto const& node : sealed_) store_.cache.forget(node->block);
  sealed_.clear();
  files_.clear();
  dirty_files_.clear();
  count_dirty(-static_cast<std::int64_t>(dirty_pages_));
  // What was taken since the last checkpoint belongs to nothing durable; what was freed stays with
  // the runs that are given back as a whole.  Writes of it may be under way, so it waits like
  // everything freed.
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
  store_.space.give_back(
      freed, false);  // sealed, written and replaced within the same transaction: nobody names them
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

}  // namespace lcfs
