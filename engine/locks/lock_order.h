// SPDX-License-Identifier: Apache-2.0
// The order in which the engine's locks may be taken: one table, from the first to the last.
//
// A thread that holds a lock takes only locks that stand below it here, and never two of one line.
// Checked twice: clang refuses a wrong order inside a function (-Wthread-safety-beta), and debug
// builds abort on a wrong order across functions (base/sync.h, LockRank).
//
// A mutex takes its place where it is declared:
//   mutable Mutex mu_ LCFS_LEVEL(health);
// A new lock gets a line of its own; a lock under which nothing else is taken stands near the end.
#pragma once

#include "base/sync.h"

// A level after `before`: what the compiler sees (`level`, `after_level`), and the rank.
#define LCFS_LOCK_LEVEL(level, before)                        \
  extern LockLevel level LCFS_ACQUIRED_AFTER(after_##before); \
  extern LockLevel after_##level LCFS_ACQUIRED_AFTER(level);  \
  inline constexpr LockRank level##_rank = before##_rank.next(#level);
#define LCFS_LEVEL(level)                        \
  LCFS_ACQUIRED_AFTER(::lcfs::lock_order::level) \
  LCFS_ACQUIRED_BEFORE(::lcfs::lock_order::after_##level) { ::lcfs::lock_order::level##_rank }

namespace lcfs::lock_order {

extern LockLevel after_nothing;
inline constexpr LockRank nothing_rank;

// clang-format off
LCFS_LOCK_LEVEL(grow, nothing)           // Store: one change of size at a time
LCFS_LOCK_LEVEL(structure, grow)         // Catalog: the store tree and all that must agree with it
LCFS_LOCK_LEVEL(layer, structure)        // LayerImpl: one layer's tree and files; never two layers
LCFS_LOCK_LEVEL(registry, layer)         // LayerRegistry: layers in memory
LCFS_LOCK_LEVEL(dirty, registry)         // DirtySet: layers to hand over, the generation being built
LCFS_LOCK_LEVEL(checkpoint, dirty)       // Checkpointer: who runs one, who waits for which
LCFS_LOCK_LEVEL(room, checkpoint)        // RoomMaker: what the last attempt achieved
LCFS_LOCK_LEVEL(flushes, room)           // FlushTickets: data writes outside checkpoints
LCFS_LOCK_LEVEL(events, flushes)         // EventQueue: what listeners have yet to hear
LCFS_LOCK_LEVEL(released, events)        // RemovedLayers: layers whose last object went (~LayerImpl)
LCFS_LOCK_LEVEL(superblocks, released)   // Superblocks: the one in force
LCFS_LOCK_LEVEL(space, superblocks)      // SpaceMap: free blocks and reservations
LCFS_LOCK_LEVEL(health, space)           // Health: why the store went read-only
LCFS_LOCK_LEVEL(nodes, health)           // NodeCache: one shard, never two
LCFS_LOCK_LEVEL(read_ahead, nodes)       // ReadAheadDevice: chunks in memory
// clang-format on

}  // namespace lcfs::lock_order

namespace lcfs {

// The structure lock, as the compiler knows it: functions of all parts that it protects require it
// by this name.  Catalog::mutex() returns the mutex itself.
using lock_order::structure;

}  // namespace lcfs
