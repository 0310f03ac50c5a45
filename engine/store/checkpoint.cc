// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/store/checkpointer.h"
#include "engine/store/store_impl.h"
#include "format/hash.h"

namespace lcfs {

namespace {

// The blocks that a checkpoint writes, as its superblock can name them.
class OwnBlocks {
 public:
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
  // All of them have room in a superblock.
  [[nodiscard]] bool fit() const { return count_ <= kMaxWritten; }
  std::vector<WrittenRun> take() { return std::move(runs_); }

 private:
  void add(std::uint64_t block, std::span<std::byte const> bytes) {
    if (++count_ > kMaxWritten) return;
    WrittenRun run;
    run.block.set(block);
    run.count.set(static_cast<std::uint32_t>(bytes.size() / kBlockSize));
    run.checksum.set(crc32c(bytes));
    runs_.push_back(run);
  }

  std::size_t count_ = 0;
  std::vector<WrittenRun> runs_{};
};

}  // namespace

// What one checkpoint carries from step to step.
struct Checkpointer::Job {
  SuperblockInfo next{};           // the superblock that will name it
  std::vector<Handover> layers{};  // early ones first
  std::vector<NodeRef> nodes{};    // of the store tree
  std::vector<LayerId> unwritten{};
  std::uint64_t last_flush = 0;  // data writes up to this ticket must be durable too
  bool unflushed = false;        // something of it was written before, and not flushed
  OwnBlocks own{};
};

Checkpointer::Checkpointer(StoreImpl& store) : store_(store) {}
Checkpointer::~Checkpointer() = default;

void Checkpointer::add_early(Handover handover) { early_.push_back(std::move(handover)); }
void Checkpointer::clear() { early_.clear(); }

bool Checkpointer::idle() const {
  Lock lock(mu_);
  return !running_;
}

Checkpointer::Stats Checkpointer::stats() const {
  auto const get = [](std::atomic<std::uint64_t> const& n) {
    return n.load(std::memory_order_relaxed);
  };
  return {get(count_), get(ns_), get(max_ns_)};
}

void Checkpointer::count(std::uint64_t ns) {
  count_.fetch_add(1, std::memory_order_relaxed);
  ns_.fetch_add(ns, std::memory_order_relaxed);
  if (ns > max_ns_.load(std::memory_order_relaxed)) max_ns_.store(ns, std::memory_order_relaxed);
}

Status Checkpointer::run(bool force) {
  LCFS_TRY(store_.health.check_writable());
  std::uint64_t target = 0;
  {
    Lock lock(mu_);
    std::uint64_t const mine = ++requested_;
    while (running_ && done_ < mine) lock.wait(cv_);
    if (done_ >= mine) return result_;
    running_ = true;
    target = requested_;  // everybody who asked until now is served by this one
  }
  auto const begin = std::chrono::steady_clock::now();
  Status const result = checkpoint(force);
  count(static_cast<std::uint64_t>((std::chrono::steady_clock::now() - begin) /
                                   std::chrono::nanoseconds(1)));
  Lock lock(mu_);
  running_ = false;
  done_ = target;
  result_ = result;
  cv_.notify_all();
  return result;
}

Status Checkpointer::wait_written(LayerId id) {
  while (store_.registry.is_unwritten(id)) LCFS_TRY(run(false));
  return {};
}

Status Checkpointer::checkpoint(bool force) {
  LCFS_TRY(store_.health.check_writable());
  Job job;
  LCFS_TRY_ASSIGN(bool const needed, take_over(force, job));
  if (!needed) return {};
  auto done = write(job);
  if (done) done = publish(job);
  if (!done) return store_.health.fail(std::move(done).error());
  release(job);
  return {};
}

// Take over ---------------------------------------------------------------------------------------

// False: there is nothing to make durable.
Result<bool> Checkpointer::take_over(bool force, Job& job) {
  auto& s = store_;
  auto& next = job.next;
  next = s.superblocks.in_force();
  WriteLock lock(s.catalog.mutex());
  s.removed.bury();
  auto const taken = s.dirty.take(s.catalog.tree.changed() || s.removed.any_dying() || force);
  if (!taken) return false;
  std::uint64_t const building = taken->generation;
  job.layers = std::exchange(early_, {});
  job.unwritten = s.registry.unwritten();

  std::vector<Extent> freed;
  s.catalog.tree.edit().set_generation(building);
  if (auto done = hand_over(job, taken->layers, freed); !done)
    return s.health.fail(std::move(done).error());
  if (!freed.empty()) s.space.note_release();  // RoomMaker: an earlier attempt did not have these
  s.space.pend(std::exchange(freed, {}), building);
  if (auto done = s.history.bound(building); !done) return s.health.fail(std::move(done).error());
  job.nodes = s.catalog.tree.hand_over(building + 1, freed);
  s.space.pend(std::move(freed), building);

  next.slot ^= 1;
  next.total_blocks = s.space.total();
  next.generation = building;
  s.catalog.describe(next);
  next.next_id = s.ids.next_id();
  next.next_inode = s.ids.next_inode();
  next.written_ns = now_ns();
  if (auto const keep = s.history.setting()) next.keep = keep;
  next.written.clear();
  s.space.handed_over();
  job.last_flush = s.flushes.last();
  return true;
}

// Dirty layers go into the store tree, and runs of removed ones out of it.
Status Checkpointer::hand_over(Job& job, std::vector<std::shared_ptr<LayerImpl>> const& layers,
                               std::vector<Extent>& freed) {
  auto& s = store_;
  for (auto const& layer : layers) {
    LCFS_TRY_ASSIGN(Handover h, layer->hand_over());
    LCFS_TRY_ASSIGN(bool const live,
                    s.catalog.layers.take_over(h, s.removed.is_in_use(h.id), freed));
    if (live) job.layers.push_back(std::move(h));
  }
  return s.removed.reclaim(s.catalog.layers, freed);
}

// Write, publish, release -------------------------------------------------------------------------

Status Checkpointer::write(Job& job) {
  auto& s = store_;
  // The device is asked second: a write that is under way at the first look and has ended at the
  // second counts there.
  job.unflushed = s.flushes.any(job.last_flush);
  job.unflushed = job.unflushed || !s.meter->all_flushed();
  for (auto const& h : job.layers) {
    job.own.add(h.data);
    LCFS_TRY(s.writeback.data(h.data));
  }
  auto nodes = std::move(job.nodes);
  for (auto const& h : job.layers) nodes.insert(nodes.end(), h.nodes.begin(), h.nodes.end());
  job.own.add(nodes);
  LCFS_TRY(s.writeback.nodes(std::move(nodes)));
  s.flushes.wait(job.last_flush);
  return s.health.check_writable();  // one of those writes may have failed
}

Status Checkpointer::publish(Job& job) {
  auto& s = store_;
  if (job.unflushed || !job.own.fit()) {
    LCFS_TRY(s.device.flush());  // I4: all of it before the name of it
  } else {
    job.next.written = job.own.take();
  }
  LCFS_TRY(Superblocks::write(s.device, job.next));
  LCFS_TRY(s.device.flush());
  for (auto const& h : job.layers) {
    if (h.data.layer) h.data.layer->written(h.data);
  }
  s.registry.set_written(job.unwritten);
  s.superblocks.publish(job.next, s.space);
  return {};
}

void Checkpointer::release(Job const& job) {
  auto& s = store_;
  frees_.fetch_add(1);
  auto free_now = s.space.take_pending(job.next.generation);
  std::vector<Extent> bare;
  if (s.options.discard) {
    // Long runs only: each discard is a call, and short holes only fragment the host's file.
    constexpr std::uint64_t kWorthIt = 16;
    auto const keep = std::partition(free_now.begin(), free_now.end(),
                                     [](Extent const& e) { return e.count < kWorthIt; });
    for (auto it = keep; it != free_now.end(); ++it) {
      if (s.device.discard(it->start * kBlockSize, it->count * kBlockSize)) {
        bare.push_back(*it);
        it->count = 0;
      }
    }
  }
  s.space.give_back(bare, true);
  s.space.give_back(free_now, false);
}

}  // namespace lcfs
