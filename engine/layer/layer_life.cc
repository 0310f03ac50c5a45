// SPDX-License-Identifier: Apache-2.0
// Layers: life cycle.  What the store does with a layer as a whole: freeze, hand over, commit,
// remove.
#include <optional>
#include <utility>

#include "engine/layer/layer_change.h"

namespace lcfs {

LayerImpl::~LayerImpl() {
  if (!removed_) return;
  // The last owner may hold any lock here, and releasing the base may release a long chain of
  // bases: the next checkpoint does the rest.
  store_.removed.let_go(id(), std::move(base_));
}

LayerSpace LayerImpl::space_now() const {
  ReadLock lock(mu_);
  return {tree_.own_blocks(), quota_.promised(), quota_.limit(), tree_.used_blocks(),
          tree_.inodes()};
}

LayerIo LayerImpl::io() const {
  auto const get = [](std::atomic<std::uint64_t> const& n) {
    return n.load(std::memory_order_relaxed);
  };
  return {get(reads_), get(read_bytes_), get(writes_), get(written_bytes_)};
}

Status LayerImpl::freeze(LayerId expected) {
  LCFS_TRY(store_.health.check_writable());
  IoBatch batch;
  std::uint64_t const ticket = store_.flushes.begin();
  Status result = [&]() -> Status {
    WriteLock lock(mu_);
    if (frozen_.load(std::memory_order_relaxed)) return {};
    if (id() != expected) return {};  // a commit came first: the layer meant is frozen already
    std::uint64_t const before = tree_.changes();
    // A layer that nothing changed becomes dirty too: its record changes.
    if (auto ok = begin_change(Urgency::kOrdinary); !ok) return ok;
    LCFS_TRY(end_change(place(std::nullopt, batch), before));
    auto nodes = tree_.seal();
    sealed_.insert(sealed_.end(), nodes.begin(), nodes.end());
    frozen_.store(true, std::memory_order_release);
    quota_.set_limit(0);
    return {};
  }();
  // Children read inherited data from the device: it must be there before the first one exists.
  return write_out(batch, ticket, std::move(result));
}

// Places all data, and takes what the layer is now.
Status LayerImpl::fill(Handover& h) {
  h.id = id();
  std::uint64_t const before = tree_.changes();
  LCFS_TRY(end_change(place(std::nullopt, h.data), before));
  h.nodes = std::move(sealed_);
  sealed_.clear();
  auto nodes = tree_.seal();
  h.nodes.insert(h.nodes.end(), nodes.begin(), nodes.end());
  tree_.return_chunks();
  h.allocated = tree_.take_allocated();
  h.freed = tree_.take_freed();
  h.root = tree_.tree().root();
  h.own_blocks = tree_.own_blocks();
  h.used_blocks = tree_.used_blocks();
  h.inodes = tree_.inodes();
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
  id_.store(id, std::memory_order_relaxed);
  tree_.begin_as(id);
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
  open_.clear();
  // Blocks taken since the last checkpoint belong to nothing durable.  Writes to them may be under
  // way, so they wait like everything that is freed.  What was freed stays with the layer's runs,
  // which are freed as a whole.
  store_.dirty.pend(store_.space, tree_.take_allocated());
  (void)tree_.take_freed();
  tree_.return_chunks();
}

LayerInfo LayerImpl::snapshot(LayerInfo info) const {
  ReadLock lock(mu_);
  return tree_.describe(std::move(info));
}

}  // namespace lcfs
