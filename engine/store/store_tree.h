// SPDX-License-Identifier: Apache-2.0
// The store tree in memory, the space it takes, and the change of it that is under way.
//
// A change is all or nothing: it either happens, or fails before it changed a record, or makes the
// store read-only (Health::fail), so that no checkpoint ever writes half of it.
//
// Threads: the structure lock protects everything; reading needs it shared, changing exclusively.
// Tables over the tree (NameTable, LayerTable, ImageTable, History) work through read() and edit().
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/locks/lock_order.h"
#include "engine/space/owner_space.h"
#include "engine/store/dirty_set.h"
#include "engine/store/health.h"
#include "engine/tree/tree.h"
#include "format/superblock.h"

namespace lcfs {

class StoreTree {
 public:
  // All but the superblock must outlive this.
  StoreTree(NodeCache& cache, SpaceMap& space, Health& health, DirtySet const& dirty,
            SuperblockInfo const& super);

  [[nodiscard]] Tree const& read() const LCFS_REQUIRES_SHARED(structure) { return tree_; }
  // Within a change, or a checkpoint that takes over.
  [[nodiscard]] Tree& edit() LCFS_REQUIRES(structure) { return tree_; }
  // Blocks that its nodes take; up to date between changes.
  [[nodiscard]] std::uint64_t blocks() const LCFS_REQUIRES_SHARED(structure) { return blocks_; }

  // Runs `op`, which returns a Status or Result, as one change.  blocks: what it may add to the
  // tree beyond a few nodes; they are reserved first.  kNoSpace and kReadOnly come before anything
  // has changed.
  template <class Op>
  std::invoke_result_t<Op const&> change(Urgency urgency, std::uint64_t blocks, Op const& op)
      LCFS_REQUIRES(structure) {
    LCFS_TRY(begin(urgency, blocks));
    std::uint64_t const before = tree_.changes();
    auto result = end(op());
    if (!result && tree_.changes() != before) return health_.fail(std::move(result).error());
    return result;
  }
  // The parts of it.  begin() alone marks the store as changed.
  Status begin(Urgency urgency = Urgency::kOrdinary, std::uint64_t blocks = 0)
      LCFS_REQUIRES(structure);
  // Ends a change that cannot be undone: failing is fatal, whatever it had changed.
  Status end_or_fail(Status result) LCFS_REQUIRES(structure);

  // Something changed since the last hand_over().
  [[nodiscard]] bool changed() const LCFS_REQUIRES_SHARED(structure) { return changed_; }
  // A checkpoint takes over: returns the sealed nodes, and appends to `freed` the blocks of nodes
  // that were replaced.  What changes from now on belongs to `next_generation`.
  std::vector<NodeRef> hand_over(std::uint64_t next_generation, std::vector<Extent>& freed)
      LCFS_REQUIRES(structure);
  // The tree of another checkpoint from now on.  Nothing may be dirty.
  void reset(NodePtr root, std::uint64_t blocks) LCFS_REQUIRES(structure);
  // Gives back space that was taken in advance; within a change, before reset().
  void return_chunks() LCFS_REQUIRES(structure) { own_space_.return_chunks(); }

 private:
  template <class T>
  Result<T> end(Result<T> result) LCFS_REQUIRES(structure) {
    own_space_.set_payer(nullptr);
    reservation_.reset();
    count();
    return result;
  }
  void count() LCFS_REQUIRES(structure);

  SpaceMap& space_;
  Health& health_;
  DirtySet const& dirty_;
  OwnerSpace own_space_ LCFS_GUARDED_BY(structure);
  Tree tree_ LCFS_GUARDED_BY(structure);
  Reservation reservation_ LCFS_GUARDED_BY(structure);  // of the change under way
  std::uint64_t blocks_ LCFS_GUARDED_BY(structure);
  bool changed_ LCFS_GUARDED_BY(structure) = false;
};

}  // namespace lcfs
