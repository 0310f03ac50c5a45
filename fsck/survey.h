// SPDX-License-Identifier: Apache-2.0
// All that a check learned of a store, kept for whoever repairs it.
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
  std::vector<Piece>
      reached{};  // what its tree reaches, neighbours joined, by start; of a layer that was only
                  // compared with its parent what it owns, of one with its parent's root nothing
  std::vector<Piece> skeleton{};  // what the skeleton of its tar uses
  std::vector<BadBlock> bad{};    // its file data that fails its checksum
};

// A kept checkpoint that can be gone back to.
struct KeptFacts {
  KeptCheckpoint info{};
  std::vector<Piece> blocks{};                // all that it uses, owner 0
  std::uint64_t last_id = 0, last_inode = 0;  // the greatest in it
};

struct Survey {
  std::array<std::optional<SuperblockInfo>, 2> slots{};
  Report report{};
  SuperblockInfo
      superblock{};  // of the slot that was looked at; the rest is null or empty if there is none
  std::unique_ptr<NodeSource> source{};
  std::unique_ptr<StoreScan> scan{};
  std::set<Code>
      store_errors{};  // what was said of the store tree and of space, before the layers' turn
  std::vector<std::string> store_lines{};  // those of nodes and records that can't be read
  std::unordered_map<std::uint64_t, LayerFacts> layers{};  // live ones
  std::vector<KeptFacts> kept{};                           // sound ones
};

// The store was longer when its superblock was written: what that leads to is not lost for good.
[[nodiscard]] inline bool cut_short(Slot const& slot) {
  return slot.problem.ends_with("the store is cut short");
}

// Which state is looked at; by default that of the slot in force.
struct State {
  std::optional<std::uint32_t> slot{};
  SuperblockInfo const* found = nullptr;  // none of the slots': this one, that was searched for
};

// check(), of a state.  Memory: 24 bytes more per stretch of blocks of each layer.
Result<Survey> inspect(Device& device, Options const& options, State const& state);

}  // namespace lcfs::fsck
