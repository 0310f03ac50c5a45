// SPDX-License-Identifier: Apache-2.0
// The checkpoints that are kept to go back to: which, for how long (doc/design/history.md).
//
// Each has a record in the store tree and a name in the space map; both change together here.
//
// Threads: the structure lock protects the list, shared to read, exclusive to change.  The number
// to keep is atomic.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/store/dirty_set.h"
#include "engine/store/store_tree.h"
#include "engine/store/superblocks.h"

namespace lcfs {

class History {
 public:
  // All but the numbers must outlive this.  keep_option: how many to keep whatever the store says;
  // keep_setting: what its superblock says.
  History(StoreTree& tree, SpaceMap& space, Superblocks const& superblocks, DirtySet const& dirty,
          Device const& device, std::optional<std::uint32_t> keep_option,
          std::optional<std::uint32_t> keep_setting);

  // How many checkpoints the store keeps.
  [[nodiscard]] std::uint32_t limit() const;
  // As a superblock has it.
  [[nodiscard]] std::optional<std::uint32_t> setting() const;
  void set_setting(std::uint32_t count) LCFS_REQUIRES(structure);

  // Oldest first, as the store tree has them.
  [[nodiscard]] std::vector<KeptCheckpoint> const& kept() const LCFS_REQUIRES_SHARED(structure) {
    return kept_;
  }
  [[nodiscard]] std::uint64_t newest() const LCFS_REQUIRES_SHARED(structure);  // 0: none is kept
  Result<KeptCheckpoint> find(std::uint64_t generation) const
      LCFS_REQUIRES_SHARED(structure);  // kNotFound

  // Part of a change: keeps the newest durable checkpoint, as the one before `what`.  If space is
  // short, or nothing is to be kept, drops all that is kept instead.
  Status keep(std::string_view what) LCFS_REQUIRES(structure);
  // Part of a change that belongs to the one before which checkpoint `joins` was kept: adds `more`
  // to that one's text.  If something else was done since, or it was dropped, it is keep(what).
  Status keep_with(std::uint64_t joins, std::string_view more, std::string_view what)
      LCFS_REQUIRES(structure);
  // Part of a change: drops the oldest until `left` are left.  Their blocks are free when the
  // generation being built, and one more, is durable.
  Status drop(std::size_t left) LCFS_REQUIRES(structure);
  // Part of the checkpoint that builds `building`: history within its share of the store.
  Status bound(std::uint64_t building) LCFS_REQUIRES(structure);

  // At opening: what can be read, and what cannot, whose records go with the next checkpoint.  The
  // space map knows them.
  void set(std::vector<KeptCheckpoint> kept, std::vector<KeptCheckpoint> lost)
      LCFS_REQUIRES(structure);
  // Part of going back: these are kept from now on, whatever the store tree says.
  Status replace(std::vector<KeptCheckpoint> kept) LCFS_REQUIRES(structure);

 private:
  Status drop(std::size_t left, std::uint64_t building) LCFS_REQUIRES(structure);
  Status put_record(KeptCheckpoint const& checkpoint) LCFS_REQUIRES(structure);
  // Adds to the text of the newest one.
  Status describe_newest(std::string_view between, std::string_view what) LCFS_REQUIRES(structure);

  StoreTree& tree_;
  SpaceMap& space_;
  Superblocks const& superblocks_;
  DirtySet const& dirty_;
  Device const& device_;
  std::optional<std::uint32_t> const keep_option_;
  std::atomic<std::uint32_t> keep_setting_;  // 0: the superblock says nothing; else 1 + how many
  std::vector<KeptCheckpoint> kept_ LCFS_GUARDED_BY(structure);
  std::vector<KeptCheckpoint> lost_ LCFS_GUARDED_BY(structure);
};

}  // namespace lcfs
