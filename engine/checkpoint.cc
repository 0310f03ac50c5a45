// SPDX-License-Identifier: Apache-2.0
// Checkpoints: the atomic step that makes everything before it durable (doc/design.md,
// "Checkpoint").
//
//   1. under the structure lock, no I/O: raise the generation, take over every dirty layer, put
//   roots, counters and space
//      runs into the store tree, seal it
//   2. no locks: write data and nodes; wait for data writes that others began before
//   3. device flush; the other superblock slot; device flush (I1, I10).  If nothing waits for the
//   first flush but a few blocks that
//      this checkpoint wrote itself, they stand in the superblock with their checksums instead, and
//      it counts only with them
//   4. blocks that neither slot names any more are free
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <climits>

#include "engine/store_impl.h"
#include "format/hash.h"

namespace lcfs {

Error StoreImpl::fail(Error why) {
  Lock lock(super_mu);
  if (!failure) {
    failure = why;
    failed.store(true, std::memory_order_release);
  }
  return why;
}

Status StoreImpl::check_writable() const {
  if (failed.load(std::memory_order_acquire)) {
    Lock lock(super_mu);
    return Error{Errc::kReadOnly, "store went read-only: " + failure->text(), EROFS, device.name(),
                 kNoOffset};
  }
  if (options.read_only)
    return Error{Errc::kReadOnly, "store is open read-only", EROFS, device.name(), kNoOffset};
  return {};
}

void StoreImpl::queue_nodes(std::vector<NodeRef> nodes) {
  Lock lock(writeback_mu);
  writeback.insert(writeback.end(), std::make_move_iterator(nodes.begin()),
                   std::make_move_iterator(nodes.end()));
}

std::uint64_t StoreImpl::begin_flush() {
  Lock lock(flush_mu);
  flushes.insert(++next_flush);
  return next_flush;
}

void StoreImpl::end_flush(std::uint64_t ticket) {
  Lock lock(flush_mu);
  flushes.erase(ticket);
  flush_cv.notify_all();
}

Status StoreImpl::write_nodes(std::vector<NodeRef> nodes) {
  std::sort(nodes.begin(), nodes.end(),
            [](NodeRef const& a, NodeRef const& b) { return a->block < b->block; });
  constexpr std::size_t kMost = 64;  // 1 MiB a write
  std::vector<iovec> parts;
  for (std::size_t i = 0; i < nodes.size();) {
    parts.clear();
    std::uint64_t const first = nodes[i]->block;
    do {
      parts.push_back({nodes[i]->bytes.data(), kNodeSize});
      ++i;
    } while (i < nodes.size() && parts.size() < kMost &&
             nodes[i]->block == first + parts.size() * kNodeBlocks);
    LCFS_TRY(device.write(first * kBlockSize, parts));
  }
  for (auto const& node : nodes) cache.unpin(node->block);
  return {};
}

Status StoreImpl::write_data(IoBatch const& batch) {
  std::vector<iovec> parts;
  for (auto const& piece : batch.pieces) {
    parts.clear();
    for (auto const& page : piece.pages) parts.push_back({page->bytes.data(), kBlockSize});
    LCFS_TRY(device.write(piece.device_offset, parts));
  }
  return {};
}

// The blocks that a checkpoint writes, as its superblock can name them.
class WrittenRuns {
 public:
  void add(std::uint64_t block, std::span<std::byte const> bytes) {
    if (++count_ > kMaxWritten) return;
    WrittenRun run;
    run.block.set(block);
    run.count.set(static_cast<std::uint32_t>(bytes.size() / kBlockSize));
    run.checksum.set(crc32c(bytes));
    runs_.push_back(run);
  }
  void add(IoBatch const& batch) {
    for (auto const& piece : batch.pieces) {
      auto block = piece.device_offset / kBlockSize;
      for (auto const& page : piece.pages) add(block++, std::span(page->bytes.data(), kBlockSize));
    }
  }
  void add(std::vector<NodeRef> const& nodes) {
    for (auto const& node : nodes)
      add(node->block, std::span<std::byte const>(node->bytes.data(), kNodeSize));
  }
  [[nodiscard]] bool fit() const { return count_ <= kMaxWritten; }
  std::vector<WrittenRun> take() { return std::move(runs_); }

 private:
  std::size_t count_ = 0;
  std::vector<WrittenRun> runs_{};
};

Status StoreImpl::checkpoint(bool force) {
  LCFS_TRY(check_writable());
  std::uint64_t target = 0;
  {
    Lock lock(cp_mu);
    std::uint64_t const mine = ++cp_requested;
    while (cp_running && cp_done < mine) lock.wait(cp_cv);
    if (cp_done >= mine) return cp_result;
    cp_running = true;
    target = cp_requested;  // everybody who asked until now is served by this one
  }
  auto const begin = std::chrono::steady_clock::now();
  Status const result = do_checkpoint(force);
  auto const ns = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - begin) /
                                             std::chrono::nanoseconds(1));
  checkpoints.fetch_add(1, std::memory_order_relaxed);
  checkpoint_ns.fetch_add(ns, std::memory_order_relaxed);
  Lock lock(cp_mu);
  if (ns > checkpoint_max_ns.load(std::memory_order_relaxed))
    checkpoint_max_ns.store(ns, std::memory_order_relaxed);
  cp_running = false;
  cp_done = target;
  cp_result = result;
  cp_cv.notify_all();
  return result;
}

Status StoreImpl::do_checkpoint(bool force) {
  LCFS_TRY(check_writable());
  std::vector<Handover> taken;
  std::vector<LayerId> waiting;  // for what this checkpoint writes
  SuperblockInfo next;
  {
    Lock lock(super_mu);
    next = super;
  }
  std::uint64_t building = 0;
  std::uint64_t flush_barrier = 0;
  {
    WriteLock structure(mu);
    bury();
    std::vector<std::shared_ptr<LayerImpl>> dirty;
    {
      Lock lock(dirty_mu);
      if (dirty_layers.empty() && !structure_dirty && dying.empty() && !force) return {};
      building = generation++;
      dirty.swap(dirty_layers);
    }
    std::vector<Extent> freed;
    auto hand_over = [&]() LCFS_REQUIRES(mu) -> Status {
      tree.set_generation(building);
      for (auto const& layer : dirty) {
        LCFS_TRY_ASSIGN(Handover h, layer->hand_over());
        LCFS_TRY_ASSIGN(bool const live, take_over(h, freed));
        if (live) taken.push_back(std::move(h));
      }
      LCFS_TRY(reclaim(freed));
      if (!freed.empty()) space.note_release();  // whoever looked before did not have these
      space.pend(std::exchange(freed, {}), building);
      return bound_history(building);
    };
    taken = std::exchange(early, {});
    {
      Lock lock(layers_mu);
      waiting.assign(unwritten.begin(), unwritten.end());
    }
    if (auto ok = hand_over(); !ok) return fail(std::move(ok).error());
    queue_nodes(tree.seal());
    count_store_tree();
    auto store_freed = store_space.take_freed();
    freed.insert(freed.end(), store_freed.begin(), store_freed.end());
    (void)store_space.take_allocated();
    store_space.return_chunks();
    structure_dirty = false;
    space.pend(std::move(freed), building);

    next.slot ^= 1;
    next.total_blocks = space.total();
    next.generation = building;
    next.store_root = tree.root();
    next.store_tree_blocks = store_tree_blocks;
    next.layer_blocks = layer_blocks;
    next.layer_count = layer_count;
    next.image_count = image_count;
    next.next_id = next_id.load();
    next.next_inode = next_inode.load();
    next.written_ns = now_ns();
    if (auto const keep = keep_setting.load(); keep != 0) next.keep = keep - 1;
    tree.set_generation(building + 1);
    space.handed_over();
    Lock lock(flush_mu);
    flush_barrier = next_flush;
  }

  next.written.clear();
  auto write_out = [&]() -> Status {
    bool unflushed = false;  // something of this checkpoint was written before, and not flushed
    {
      Lock lock(flush_mu);
      unflushed = !flushes.empty() && *flushes.begin() <= flush_barrier;
    }
    unflushed = unflushed || !meter->all_flushed();  // behind the look at those under way, which
                                                     // count here when they have ended
    WrittenRuns ours;
    for (auto const& h : taken) {
      ours.add(h.data);
      LCFS_TRY(write_data(h.data));
    }
    std::vector<NodeRef> nodes;
    {
      Lock lock(writeback_mu);
      nodes.swap(writeback);
    }
    for (auto& h : taken) nodes.insert(nodes.end(), h.nodes.begin(), h.nodes.end());
    ours.add(nodes);
    LCFS_TRY(write_nodes(std::move(nodes)));
    {
      Lock lock(flush_mu);
      while (!flushes.empty() && *flushes.begin() <= flush_barrier) lock.wait(flush_cv);
    }
    LCFS_TRY(check_writable());  // one of those writes may have failed
    if (unflushed || !ours.fit()) {
      LCFS_TRY(device.flush());  // I4: all of it before the name of it
    } else {
      next.written = ours.take();
    }
    LCFS_TRY(write_superblock(next));
    return device.flush();
  };
  if (auto ok = write_out(); !ok) return fail(std::move(ok).error());

  for (auto const& h : taken) {
    if (h.data.layer) h.data.layer->written(h.data);
  }
  {
    Lock lock(layers_mu);
    for (LayerId const id : waiting) unwritten.erase(id);
  }
  {
    Lock lock(super_mu);
    super = next;
    space.made_durable();
  }
  frees.fetch_add(1);
  auto free_now = space.take_pending(next.generation);
  std::vector<Extent> bare;
  if (options.discard) {
    // Long runs only: each discard is a call, and short holes only fragment the host's file.
    constexpr std::uint64_t kWorthIt = 16;
    auto const keep = std::partition(free_now.begin(), free_now.end(),
                                     [](Extent const& e) { return e.count < kWorthIt; });
    for (auto it = keep; it != free_now.end(); ++it) {
      if (device.discard(it->start * kBlockSize, it->count * kBlockSize)) {
        bare.push_back(*it);
        it->count = 0;
      }
    }
  }
  space.give_back(bare, true);
  space.give_back(free_now, false);
  return {};
}

Status StoreImpl::write_superblock(SuperblockInfo const& info) {
  AlignedBuffer slot(kBlockSize);
  encode_superblock(info, std::span<std::byte, kBlockSize>(slot.data(), kBlockSize));
  return device.write(kSlotBlock[info.slot] * kBlockSize, slot.span());
}

Status StoreImpl::confirm() {
  Lock lock(super_mu);
  if (super.written.empty()) return {};
  // The list stays where it is: only the sector of the superblock changes, which is written whole
  // or not at all.
  AlignedBuffer slot(kBlockSize), bare(kBlockSize);
  encode_superblock(super, std::span<std::byte, kBlockSize>(slot.data(), kBlockSize));
  super.written.clear();
  encode_superblock(super, std::span<std::byte, kBlockSize>(bare.data(), kBlockSize));
  std::copy_n(bare.data(), sizeof(Superblock), slot.data());
  return device.write(kSlotBlock[super.slot] * kBlockSize, slot.span());
}

Status StoreImpl::make_room(Urgency urgency) {
  auto after = space.standing();
  {
    ReadLock lock(mu);
    Lock room(room_mu);
    if (urgency == Urgency::kOrdinary && kept.empty() && dying.empty() && room_made == after)
      return {};
  }
  LCFS_TRY(make_ready(Urgency::kEmergency));
  {
    WriteLock lock(mu);
    if (!kept.empty()) {
      LCFS_TRY(begin_structure_change(Urgency::kEmergency));
      std::uint64_t const before = tree.changes(), had = space.counts().history;
      // A good piece at once: a store that fills up asks again and again.
      std::uint64_t const enough = std::max<std::uint64_t>(space.total() / 64, 4096);
      auto drop = [&]() LCFS_REQUIRES(mu) -> Status {
        while (!kept.empty() && had - space.counts().history < enough)
          LCFS_TRY(give_up(kept.size() - 1));
        return {};
      };
      LCFS_TRY(end_structure_change(drop(), before));
    }
  }
  LCFS_TRY(settle());
  after.promised = space.standing().promised;  // what was released meanwhile may have come too late
  Lock room(room_mu);
  room_made = after;
  return {};
}

Status StoreImpl::make_slack(std::uint64_t blocks) {
  auto const c = space.counts();
  if (c.history == 0 || c.usable >= c.promised + c.emergency + blocks) return {};
  return make_room();
}

Status StoreImpl::settle() {
  // Two: blocks freed in generation g are free once g + 1 is durable.
  LCFS_TRY(checkpoint(true));
  return checkpoint(true);
}

}  // namespace lcfs
