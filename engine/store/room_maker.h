// SPDX-License-Identifier: Apache-2.0
// Makes room in a full store: drops history, gives dirty data its place (its reservations are
// generous), and lets checkpoints turn pending blocks into free ones.
//
// Threads: any function from any thread that holds no lock from the structure lock on; each may
// wait for checkpoints.  mu_ guards the memory of the last attempt.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/locks/lock_order.h"
#include "engine/space/space_map.h"

namespace lcfs {

struct StoreImpl;

class RoomMaker {
 public:
  // Works on the parts of this store, which must outlive it.
  explicit RoomMaker(StoreImpl& store) : store_(store) {}

  // For a caller that met kNoSpace.  Ordinary work gets nothing if that would be in vain, as it was
  // just before: the writers of a full store would keep the device busy with checkpoints.
  Status make(Urgency urgency = Urgency::kEmergency) LCFS_EXCLUDES(structure, mu_);
  // Drops history before it is in the way of `blocks` blocks.
  Status make_slack(std::uint64_t blocks) LCFS_EXCLUDES(structure, mu_);
  // Before the lock for a change of the store tree is taken: room for the checkpoint that makes it
  // durable, if it can be had.  kReadOnly.
  Status make_ready(Urgency urgency) LCFS_EXCLUDES(structure);
  // Two checkpoints: what was freed before is free when it returns.
  Status settle() LCFS_EXCLUDES(structure);

 private:
  Status drop_history() LCFS_EXCLUDES(structure);
  // The last attempt ended as things are now, and nothing else can be given up.
  bool is_in_vain(SpaceMap::Standing const& now) LCFS_EXCLUDES(structure, mu_);

  StoreImpl& store_;
  Mutex mu_ LCFS_LEVEL(room);
  std::optional<SpaceMap::Standing> made_ LCFS_GUARDED_BY(mu_);  // after the last make()
};

}  // namespace lcfs
