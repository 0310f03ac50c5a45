// SPDX-License-Identifier: Apache-2.0
// The free map of a store and the promises made on it.
//
// The map is derived when a store is opened (all blocks that no run and no store tree node names)
// and lives in memory only: there is no second truth on the device.  Its size follows the number of
// free runs.
//
// Three kinds of takers:
// - a Reservation promises blocks to an operation or to dirty pages, so that ENOSPC is told at the
// front door and never
//   when deferred data is placed;
// - allocate() hands out runs; what it takes for a reservation is subtracted from the promise;
// - chunks: layers take more than they need at once and give the rest back at the checkpoint, so
// that layers neither
//   contend nor interleave.
// An emergency reserve is kept from ordinary takers.  Part of it is kept from removals too: the
// store tree's nodes are not promised, and each checkpoint may have to copy all of them.  Nothing
// may begin that a checkpoint could not finish (check_reserve()).
//
// A node needs kNodeBlocks neighbours, and any promise may come to be nodes: only blocks that nodes
// can have count as room for promises. Data takes long runs as long as there is room beyond what is
// promised, then the splinters that no node can have.
//
// History: some checkpoints are kept (doc/design.md, "History").  A block that is freed while a
// kept checkpoint names it becomes history: not free, and not pending either, until the newest kept
// checkpoint that names it is dropped.  What is used now and was there when the newest one was made
// is named by it; what came later (or was there earlier, and is back) is known in `ages_`.
//
// Backing: on a sparse file, free runs are "bare" until Device::reserve() made sure of them.
// Promises are only made on backed blocks, and with some more backed for checkpoints, so a full
// host filesystem is told like a full store.  Refusing takes a host many milliseconds: once it is
// full it is not asked again for a while.
//
// Threads: all functions lock mu_; it is held across Device::reserve (fallocate, no data I/O),
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
#include "engine/ages.h"
#include "engine/free_runs.h"
#include "engine/sync.h"
#include "format/layout.h"

namespace lcfs {

// Who may use the emergency reserve: nobody; removals, but for a rest; removals of what is only the
// layer's own, which copy nothing for good. Those of inherited files give nothing back and copy
// nodes: without the rest they would end all other removals too.
enum class Urgency : std::uint8_t { kOrdinary, kEmergency, kOwnRemoval };

class SpaceMap {
 public:
  // `used`: normalized; everything else in [kReservedBlocks, total) is free.
  SpaceMap(Device& device, std::uint64_t total_blocks, std::vector<Extent> const& used);

  // Promises n blocks, or kNoSpace.
  Status promise(std::uint64_t n, Urgency urgency) LCFS_EXCLUDES(mu_);
  void unpromise(std::uint64_t n) LCFS_EXCLUDES(mu_);
  // The store tree has `blocks` now: the next checkpoints may take as many, for copies of its
  // nodes.
  void set_store_tree(std::uint64_t blocks) LCFS_EXCLUDES(mu_);
  // Before something begins that a checkpoint must finish: is there room for the store tree's
  // copies, of the one that may be under way and of the next?  kNoSpace: what earlier ones freed
  // must come back first (StoreImpl::settle(), the end of a pin).  Removals are content with room
  // for one, unless a pin keeps what is freed.
  Status check_reserve(Urgency urgency) LCFS_EXCLUDES(mu_);

  // A run of `least`..`want` blocks.  `paid` blocks of it (<= least) were promised before and are
  // not counted again. Blocks beyond `least` come only out of what nobody was promised.
  Result<Extent> allocate(std::uint64_t least, std::uint64_t want, std::uint64_t paid,
                          std::uint64_t hint, Urgency urgency) LCFS_EXCLUDES(mu_);

  // Free at once: blocks that no durable or future checkpoint can name.
  void give_back(Extent e) LCFS_EXCLUDES(mu_);
  // bare: what backed them was discarded.
  void give_back(std::vector<Extent> const& extents, bool bare) LCFS_EXCLUDES(mu_);

  // Freed while generation `generation` is built: kept until generation + 1 is durable, so that the
  // older superblock slot stays whole too.
  void pend(std::vector<Extent> extents, std::uint64_t generation) LCFS_EXCLUDES(mu_);
  // Generation `durable` is on the device: takes out what nothing names any more.  The caller may
  // discard it, then give_back().
  std::vector<Extent> take_pending(std::uint64_t durable) LCFS_EXCLUDES(mu_);
  // While a generation is pinned, blocks that were freed later stay pending: it may name them.
  void pin(std::uint64_t generation) LCFS_EXCLUDES(mu_);
  void unpin(std::uint64_t generation) LCFS_EXCLUDES(mu_);

  // Checkpoint `generation`, the newest durable one and newer than all that are kept, is kept.  No
  // made_durable() and no take_pending() in between: the caller holds what orders them.
  void keep(std::uint64_t generation) LCFS_EXCLUDES(mu_);
  // The oldest kept one is not kept any more; `next` is the oldest then, 0: none.  What only it
  // named is pending as if freed while `building` is built.
  void drop(std::uint64_t generation, std::uint64_t next, std::uint64_t building)
      LCFS_EXCLUDES(mu_);
  // At opening, and when the store goes back: `history`, whose blocks are neither free nor used,
  // and `used`, those in use that the newest kept checkpoint does not name.  0: none is kept.
  void set_history(std::uint64_t newest, std::vector<Aged> const& history,
                   std::vector<Aged> const& used) LCFS_EXCLUDES(mu_);
  // Blocks of history are in use again.  False, and nothing is changed, if not all of them are
  // history.
  [[nodiscard]] bool revive(std::vector<Extent> const& extents) LCFS_EXCLUDES(mu_);
  // What was taken until now is in the checkpoint that is being made.
  void handed_over() LCFS_EXCLUDES(mu_);
  // That checkpoint is the newest durable one now.
  void made_durable() LCFS_EXCLUDES(mu_);
  // Blocks that would be free without that kept checkpoint, were all older ones gone.
  [[nodiscard]] std::uint64_t history_of(std::uint64_t generation) const LCFS_EXCLUDES(mu_);
  // Little is left: no time to keep anything.
  [[nodiscard]] bool low() const LCFS_EXCLUDES(mu_);

  // The store has `total_blocks` now; the new ones are free.
  void grow(std::uint64_t total_blocks) LCFS_EXCLUDES(mu_);
  // At opening: blocks that only the older slot still names.
  void withhold(std::vector<Extent> const& extents, std::uint64_t generation) LCFS_EXCLUDES(mu_);

  // Gives the backing of all free space back to the device, promises excepted.
  void trim() LCFS_EXCLUDES(mu_);

  // Something goes that a later checkpoint will make room of.
  void note_release() { releases_.fetch_add(1); }
  // Equal: checkpoints made no more room since, and would make none now: nothing was released, and
  // nothing is promised that placing could turn into less.
  struct Standing {
    std::uint64_t releases = 0, promised = 0;
    bool operator==(Standing const&) const = default;
  };
  [[nodiscard]] Standing standing() const LCFS_EXCLUDES(mu_);

  struct Counts {
    std::uint64_t free = 0, pending = 0, history = 0, promised = 0, emergency = 0;
    std::uint64_t usable = 0;  // of `free`, for promises
  };
  [[nodiscard]] Counts counts() const LCFS_EXCLUDES(mu_);
  [[nodiscard]] std::uint64_t total() const { return total_.load(std::memory_order_relaxed); }

 private:
  Status back(std::uint64_t blocks)
      LCFS_REQUIRES(mu_);  // until backed_ has room for that many, or kNoSpace
  Status reserve(Extent e)
      LCFS_REQUIRES(mu_);  // of the device; kNoSpace at once if it was full a moment ago
  [[nodiscard]] std::uint64_t usable() const LCFS_REQUIRES(mu_) {
    return backed_.node_blocks() + bare_.node_blocks();
  }
  [[nodiscard]] std::uint64_t available(Urgency urgency) const LCFS_REQUIRES(mu_);
  [[nodiscard]] std::uint64_t for_checkpoints() const
      LCFS_REQUIRES(mu_);  // of the emergency reserve
  [[nodiscard]] std::uint64_t least_for_checkpoints() const LCFS_REQUIRES(mu_);
  [[nodiscard]] std::uint64_t for_own_removals() const
      LCFS_REQUIRES(mu_);  // beyond that, and beyond what one of them promises
  Error no_space(std::uint64_t wanted) const LCFS_REQUIRES(mu_);
  std::vector<Aged> take_ages(Extent e) LCFS_REQUIRES(mu_);

  Device& device_;
  std::atomic<std::uint64_t> total_;  // grows only
  std::atomic<std::uint64_t> releases_{0};
  mutable Mutex mu_;
  std::uint64_t store_tree_ LCFS_GUARDED_BY(mu_) = 0;
  std::uint64_t emergency_ LCFS_GUARDED_BY(mu_);
  std::optional<Error> host_full_ LCFS_GUARDED_BY(mu_);  // what it said
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
  // What went to history while a generation was built that is not durable yet, and whose it was
  // taken to be: the checkpoint before that generation names it too, and may still be kept.
  std::map<std::uint64_t, std::vector<Aged>> recent_history_ LCFS_GUARDED_BY(mu_);
  // Blocks in use that the newest kept checkpoint does not name: taken before the newest durable
  // checkpoint; since then, before the one that is being made; later.
  enum Age : std::uint8_t { kDurable, kHandedOver, kNew };
  std::array<AgeMap, 3> ages_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
