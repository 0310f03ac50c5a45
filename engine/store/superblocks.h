// SPDX-License-Identifier: Apache-2.0
// The two superblock slots: which superblock is in force, and writing the next one.
// Specification: doc/format.md, "Which slot".
//
// Threads: in_force(), hold() and publish() from any thread; mu_ guards the superblock in force.
// write() belongs to the one checkpoint under way, confirm() to the end of the store's use.
#pragma once

#include <optional>

#include "device/device.h"
#include "engine/locks/lock_order.h"
#include "engine/space/space_map.h"
#include "format/superblock.h"

namespace lcfs {

class Superblocks {
 public:
  struct Found {
    SuperblockInfo current{};               // in force
    std::optional<SuperblockInfo> older{};  // the other slot, if it is valid too
  };
  // What the slots of a device hold.  kInvalid (not a store), kCorrupt, kUnsupported, kIo.
  static Result<Found> find(Device& device);
  // Writes one into its slot; does not flush.
  static Status write(Device& device, SuperblockInfo const& superblock);

  // The device must outlive this.
  Superblocks(Device& device, SuperblockInfo const& in_force)
      : device_(device), in_force_(in_force) {}

  [[nodiscard]] SuperblockInfo in_force() const LCFS_EXCLUDES(mu_) {
    Lock lock(mu_);
    return in_force_;
  }
  // Calls use(superblock in force) while no checkpoint can end: what that superblock references
  // cannot be freed in between.
  template <class Use>
  auto hold(Use const& use) const LCFS_EXCLUDES(mu_) {
    Lock lock(mu_);
    return use(in_force_);
  }
  // `superblock` is durable: it is in force from now on, and the space map learns of it.
  void publish(SuperblockInfo const& superblock, SpaceMap& space) LCFS_EXCLUDES(mu_);
  // Writes the superblock in force again, in place, without its list of written blocks.  Those are
  // durable: if one is damaged later, that must not look like a checkpoint that was cut off.  Does
  // not flush.  The caller makes sure that nothing else uses the store.
  Status confirm() LCFS_EXCLUDES(mu_);

 private:
  Device& device_;
  mutable Mutex mu_ LCFS_LEVEL(superblocks);
  SuperblockInfo in_force_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
