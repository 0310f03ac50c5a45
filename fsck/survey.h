// SPDX-License-Identifier: Apache-2.0
// The facts that a check learned about a store, kept for a repair.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "fsck/check.h"
#include "fsck/layer_check.h"
#include "fsck/node_source.h"
#include "fsck/store_scan.h"

namespace lcfs::fsck {

// Blocks [start, start + count) of one owner.
struct Piece {
  std::uint64_t start = 0, count = 0, owner = 0;
};

struct LayerFacts {
  LayerResult result{};
  // Blocks of its tree, adjacent ones joined, by start; only those it owns if it was just compared
  // with its parent; none if it has its parent's root.
  std::vector<Piece> reached{};
  std::vector<Piece> skeleton{};  // blocks of the skeleton of its tar
  std::vector<BadBlock> bad{};    // blocks of its files that fail their checksum
};

// A sound restore point.
struct KeptFacts {
  KeptCheckpoint info{};
  std::vector<Piece> blocks{};                // all its blocks, owner 0
  std::uint64_t last_id = 0, last_inode = 0;  // the greatest ones in it
};

struct Survey {
  std::array<std::optional<SuperblockInfo>, 2> slots{};
  Report report{};
  SuperblockInfo superblock{};  // of the inspected slot; the rest is null or empty if there is none
  std::unique_ptr<NodeSource> source{};
  std::unique_ptr<StoreScan> scan{};
  std::set<Code> store_errors{};           // findings about the store tree and about space
  std::vector<std::string> store_lines{};  // lines about unreadable nodes and records
  std::unordered_map<std::uint64_t, LayerFacts> layers{};  // live ones
  std::vector<KeptFacts> kept{};                           // sound ones
};

// The store was larger when this superblock was written: restoring its size may bring it back.
[[nodiscard]] inline bool cut_short(Slot const& slot) {
  return slot.problem.ends_with("the store is cut short");
}

// The state to inspect; by default that of the slot in force.
struct State {
  std::optional<std::uint32_t> slot{};
  SuperblockInfo const* found = nullptr;  // this one, which a search found, instead of a slot's
};

// Checks a state of the store.  Memory: 24 bytes more per stretch of blocks of each layer.
Result<Survey> inspect(Device& device, Options const& options, State const& state);

}  // namespace lcfs::fsck
