// SPDX-License-Identifier: Apache-2.0
// Checkpoints: the atomic step that makes everything before it durable (doc/design/checkpoint.md).
//
// A checkpoint has four steps:
//   take over  under the structure lock, without I/O: ends the generation, takes every dirty layer,
//              puts roots, counters and space runs into the store tree, and seals it
//   write      without locks: data and nodes; waits for data writes that others began before
//   publish    flushes, writes the other superblock slot, flushes (I1, I4, I10)
//   release    what neither slot references any more becomes free
// If nothing but a few blocks that the checkpoint wrote itself waits for the first flush, they
// stand in the superblock with their checksums instead, and it counts only with them.
//
// Threads: run() from any thread; one checkpoint at a time, and callers that come meanwhile share
// the next.  mu_ guards who runs and who waits; no other lock is taken while it is held.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <vector>

#include "engine/layer/layer_impl.h"
#include "engine/locks/lock_order.h"
#include "engine/types.h"

namespace lcfs {

struct StoreImpl;

class Checkpointer {
 public:
  // Works on the parts of this store, which must outlive it.
  explicit Checkpointer(StoreImpl& store);
  ~Checkpointer();
  Checkpointer(Checkpointer const&) = delete;
  Checkpointer& operator=(Checkpointer const&) = delete;

  // Everything done before the call is durable when it returns.  force: makes a checkpoint even if
  // nothing changed, for what it frees.  A checkpoint that fails makes the store read-only.
  Status run(bool force) LCFS_EXCLUDES(structure, mu_);
  // The data of a layer is on the device when it returns (LayerRegistry::is_unwritten()).
  Status wait_written(LayerId id) LCFS_EXCLUDES(structure, mu_);
  // None is under way.
  [[nodiscard]] bool idle() const LCFS_EXCLUDES(mu_);

  // Handed over by a commit: the next checkpoint writes it.
  void add_early(Handover handover) LCFS_REQUIRES(structure);
  // Checkpoints that began to free blocks.  A reader without a lock compares two of these: what it
  // saw in a tree was not used again if less than two lie between.
  [[nodiscard]] std::uint64_t frees() const { return frees_.load(); }

  struct Stats {
    std::uint64_t count = 0, ns = 0, max_ns = 0;
  };
  [[nodiscard]] Stats stats() const;

  // The end of the store's use: lets go of layers.
  void clear() LCFS_REQUIRES(structure);

 private:
  struct Job;
  Status checkpoint(bool force) LCFS_EXCLUDES(structure, mu_);
  Result<bool> take_over(bool force, Job& job) LCFS_EXCLUDES(structure, mu_);
  Status hand_over(Job& job, std::vector<std::shared_ptr<LayerImpl>> const& layers,
                   std::vector<Extent>& freed) LCFS_REQUIRES(structure);
  Status write(Job& job) LCFS_EXCLUDES(structure, mu_);
  Status publish(Job& job) LCFS_EXCLUDES(structure, mu_);
  void release(Job const& job) LCFS_EXCLUDES(structure, mu_);
  void count(std::uint64_t ns);

  StoreImpl& store_;
  std::atomic<std::uint64_t> frees_{0};
  std::atomic<std::uint64_t> count_{0}, ns_{0}, max_ns_{0};  // statistics
  std::vector<Handover> early_ LCFS_GUARDED_BY(structure);

  mutable Mutex mu_ LCFS_LEVEL(checkpoint);
  std::condition_variable cv_;
  bool running_ LCFS_GUARDED_BY(mu_) = false;
  std::uint64_t requested_ LCFS_GUARDED_BY(mu_) = 0;  // by calls of run(), numbered from 1
  std::uint64_t done_ LCFS_GUARDED_BY(mu_) = 0;       // up to this call, with result_
  Status result_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
