// SPDX-License-Identifier: Apache-2.0
// The free map of a store, and the reservations made on it.
//
// The map is derived when a store is opened: all blocks that no run and no node of the store tree
// names are free.  It lives in memory only, so there is no second truth on the device.  Its size
// follows the number of free runs.
//
// Three kinds of takers:
// - A Reservation promises blocks to an operation or to dirty pages, so that ENOSPC is reported at
//   the front door and never when deferred data is placed.
// - allocate() hands out runs.  What it takes for a reservation is subtracted from that.
// - Chunks: a layer takes more than it needs at once and returns the rest at the checkpoint, so
//   that layers neither contend nor interleave.
//
// An emergency reserve is kept from ordinary takers.  Part of it is kept from removals too: nodes
// of the store tree are not reserved, and a checkpoint may have to copy all of them.  Nothing may
// begin that a checkpoint could not finish (check_reserve()).
//
// A node needs kNodeBlocks neighbours, and any reservation may become nodes.  So only blocks that
// nodes can use count as room for reservations.  Data takes long runs as long as there is room
// beyond what is reserved, then the splinters that no node can use.
//
// History: some checkpoints are kept as restore points (doc/design/history.md).  A block that is
// freed while a kept checkpoint names it becomes history.  It is then neither free nor pending
// until the newest kept checkpoint that names it is dropped.  Blocks that are in use now and were
// in use when the newest one was made are named by it.  Those that came later, or were there
// earlier and came back, are known in `ages_`.
//
// Backing: on a sparse file, free runs are unbacked ("bare") until Device::reserve() made sure of
// them.  Reservations are made on backed blocks only, with some more backed for checkpoints, so a
// full host file system is reported like a full store.  A host takes many milliseconds to refuse:
// once it is full it is not asked again for a while.
//
// Threads: all functions lock mu_.  It is held across Device::reserve (fallocate, no data I/O),
// never across reads or writes.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "device/device.h"
#include "engine/locks/lock_order.h"
#include "engine/space/ages.h"
#include "engine/space/free_runs.h"
#include "engine/types.h"
#include "format/layout.h"

namespace lcfs {

// Who may use the emergency reserve:
// - kOrdinary: nobody.
// - kEmergency: removals, except for a rest.
// - kOwnRemoval: removals of what only the layer itself owns may use the rest too; they copy
//   nothing for good.  Removals of inherited files free nothing and copy nodes: without the rest
//   they would make all other removals impossible.
enum class Urgency : std::uint8_t { kOrdinary, kEmergency, kOwnRemoval };

class SpaceMap {
 public:
  // `used`: normalized; everything else in [kReservedBlocks, total) is free.
  SpaceMap(Device& device, std::uint64_t total_blocks, std::vector<Extent> const& used);

  // Reserves n blocks, or fails with kNoSpace.
  Status promise(std::uint64_t n, Urgency urgency) LCFS_EXCLUDES(mu_);
  void unpromise(std::uint64_t n) LCFS_EXCLUDES(mu_);
  // The store tree has `blocks` now.  Each of the next checkpoints may take as many, to copy its
  // nodes.
  void set_store_tree(std::uint64_t blocks) LCFS_EXCLUDES(mu_);
  // Call it before something begins that a checkpoint must finish.  Is there room for the copies of
  // the store tree that the checkpoint under way and the next one make?  kNoSpace: blocks that
  // earlier ones freed must become free first (by a checkpoint, or the end of a pin).  Removals
  // need room for one copy only, unless a pin keeps what is freed.
  Status check_reserve(Urgency urgency) LCFS_EXCLUDES(mu_);

  // A run of `least`..`want` blocks.  `paid` blocks of it (<= least) were reserved before and are
  // not counted again.  Blocks beyond `least` are taken only from what is not reserved.
  Result<Extent> allocate(std::uint64_t least, std::uint64_t want, std::uint64_t paid,
                          std::uint64_t hint, Urgency urgency) LCFS_EXCLUDES(mu_);

  // Frees at once: blocks that no durable or future checkpoint can name.
  void give_back(Extent e) LCFS_EXCLUDES(mu_);
  // bare: they are unbacked now, their backing was discarded.
  void give_back(std::vector<Extent> const& extents, bool bare) LCFS_EXCLUDES(mu_);

  // They were freed while generation `generation` is built.  They are kept until generation + 1 is
  // durable, so that the older superblock slot stays whole too.
  void pend(std::vector<Extent> extents, std::uint64_t generation) LCFS_EXCLUDES(mu_);
  // Generation `durable` is on the device: returns what nothing names any more.  The caller may
  // discard it, then calls give_back().
  std::vector<Extent> take_pending(std::uint64_t durable) LCFS_EXCLUDES(mu_);
  // While a generation is pinned, blocks that are freed later stay pending: it may name them.
  void pin(std::uint64_t generation) LCFS_EXCLUDES(mu_);
  void unpin(std::uint64_t generation) LCFS_EXCLUDES(mu_);

  // Keeps checkpoint `generation`, which is the newest durable one and newer than all that are
  // kept. Neither made_durable() nor take_pending() runs in between: the caller holds what orders
  // them.
  void keep(std::uint64_t generation) LCFS_EXCLUDES(mu_);
  // Drops the oldest kept one; `next` is the oldest then, 0: none.  Blocks that only it named are
  // pending, as if freed while `building` is built.
  void drop(std::uint64_t generation, std::uint64_t next, std::uint64_t building)
      LCFS_EXCLUDES(mu_);
  // When a store is opened or restored: `history` are blocks that are neither free nor used, `used`
  // those in use that the newest kept checkpoint does not name.  newest 0: none is kept.
  void set_history(std::uint64_t newest, std::vector<Aged> const& history,
                   std::vector<Aged> const& used) LCFS_EXCLUDES(mu_);
  // Blocks of history are in use again.  False, and nothing has changed, if some of them are not
  // history.
  [[nodiscard]] bool revive(std::vector<Extent> const& extents) LCFS_EXCLUDES(mu_);
  // All blocks taken until now belong to the checkpoint that is being made.
  void handed_over() LCFS_EXCLUDES(mu_);
  // That checkpoint is the newest durable one now.
  void made_durable() LCFS_EXCLUDES(mu_);
  // Blocks that dropping that kept checkpoint would free, if all older ones were dropped.
  [[nodiscard]] std::uint64_t history_of(std::uint64_t generation) const LCFS_EXCLUDES(mu_);
  // Too little is left to keep any history.
  [[nodiscard]] bool low() const LCFS_EXCLUDES(mu_);

  // The store has `total_blocks` now; the new ones are free.
  void grow(std::uint64_t total_blocks) LCFS_EXCLUDES(mu_);
  // When a store is opened: blocks that only the older superblock slot still names.
  void withhold(std::vector<Extent> const& extents, std::uint64_t generation) LCFS_EXCLUDES(mu_);

  // Returns the backing of all free space to the device, except what is reserved.
  void trim() LCFS_EXCLUDES(mu_);

  // Something was removed that a later checkpoint will turn into free space.
  void note_release() { releases_.fetch_add(1); }
  // Two equal ones mean: checkpoints have freed nothing in between and would free nothing now.
  // Nothing was released, and no reservation shrinks by placing data.
  struct Standing {
    std::uint64_t releases = 0, promised = 0;
    bool operator==(Standing const&) const = default;
  };
  [[nodiscard]] Standing standing() const LCFS_EXCLUDES(mu_);

  struct Counts {
    std::uint64_t free = 0, pending = 0, history = 0, promised = 0, emergency = 0;
    std::uint64_t usable = 0;  // of `free`, for reservations
  };
  [[nodiscard]] Counts counts() const LCFS_EXCLUDES(mu_);
  [[nodiscard]] std::uint64_t total() const { return total_.load(std::memory_order_relaxed); }

 private:
  // Backs free runs until backed_ has room for that many blocks, or fails with kNoSpace.
  Status back(std::uint64_t blocks) LCFS_REQUIRES(mu_);
  // Asks the device to back them; kNoSpace at once if it was full a moment ago.
  Status reserve(Extent e) LCFS_REQUIRES(mu_);
  [[nodiscard]] std::uint64_t usable() const LCFS_REQUIRES(mu_) {
    return backed_.node_blocks() + bare_.node_blocks();
  }
  [[nodiscard]] std::uint64_t available(Urgency urgency) const LCFS_REQUIRES(mu_);
  // The emergency reserve's parts: for checkpoints, and beyond that (and beyond what one of them
  // reserves) for removals of what a layer owns.
  [[nodiscard]] std::uint64_t for_checkpoints() const LCFS_REQUIRES(mu_);
  [[nodiscard]] std::uint64_t least_for_checkpoints() const LCFS_REQUIRES(mu_);
  [[nodiscard]] std::uint64_t for_own_removals() const LCFS_REQUIRES(mu_);
  Error no_space(std::uint64_t wanted) const LCFS_REQUIRES(mu_);
  std::vector<Aged> take_ages(Extent e) LCFS_REQUIRES(mu_);

  Device& device_;
  std::atomic<std::uint64_t> total_;  // grows only
  std::atomic<std::uint64_t> releases_{0};
  mutable Mutex mu_ LCFS_LEVEL(space);
  std::uint64_t store_tree_ LCFS_GUARDED_BY(mu_) = 0;
  std::uint64_t emergency_ LCFS_GUARDED_BY(mu_);
  std::optional<Error> host_full_ LCFS_GUARDED_BY(mu_);  // the host's last refusal
  std::chrono::steady_clock::time_point host_full_until_ LCFS_GUARDED_BY(mu_){};
  FreeRuns backed_ LCFS_GUARDED_BY(mu_);
  FreeRuns bare_ LCFS_GUARDED_BY(mu_);
  std::uint64_t promised_ LCFS_GUARDED_BY(mu_) = 0;
  std::map<std::uint64_t, std::vector<Extent>> pending_ LCFS_GUARDED_BY(mu_);  // by generation
  std::uint64_t pending_blocks_ LCFS_GUARDED_BY(mu_) = 0;
  std::multiset<std::uint64_t> pins_ LCFS_GUARDED_BY(mu_);  // generations
  std::uint64_t newest_kept_ LCFS_GUARDED_BY(mu_) = 0;
  std::map<std::uint64_t, FreeRuns> history_
      LCFS_GUARDED_BY(mu_);  // by the newest kept checkpoint that names them
  std::uint64_t history_blocks_ LCFS_GUARDED_BY(mu_) = 0;
  // Blocks that became history while a generation was built that is not durable yet, and the kept
  // checkpoint they were counted for.  The checkpoint before that generation names them too, and
  // may still be kept.
  std::map<std::uint64_t, std::vector<Aged>> recent_history_ LCFS_GUARDED_BY(mu_);
  // Blocks in use that the newest kept checkpoint does not name: taken before the newest durable
  // checkpoint; since then, before the one that is being made; later.
  enum Age : std::uint8_t { kDurable, kHandedOver, kNew };
  std::array<AgeMap, 3> ages_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
