// SPDX-License-Identifier: Apache-2.0
// Small value types that the engine's public headers share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/device.h"
#include "format/records.h"
#include "format/superblock.h"

namespace lcfs {

// The engine's contracts speak of records, blocks and devices: these words are the engine's too.
using namespace device;
using namespace format;

using LayerId = std::uint64_t;  // 0: none
using ImageId = std::uint64_t;  // 0: none
using Inode = std::uint64_t;    // unique in the store, never reused

// What stat() reports: a record of the tree, updated from open files in memory.
struct Attr {
  Inode inode = 0;
  InodeInfo info{};
  bool placed = true;  // false: some of its data has no blocks yet; info.blocks says what it will
                       // take, or a little more
};

// Where every block of the store is; blocks.  total == reserved + store_tree + layers + history +
// pending + free, always (I5).
struct SpaceReport {
  std::uint64_t total = 0;
  std::uint64_t reserved = kReservedBlocks;  // superblock area
  std::uint64_t store_tree = 0;              // nodes of the store tree
  std::uint64_t layers = 0;                  // runs of all layers, dying ones included
  std::uint64_t history = 0;  // only kept checkpoints need them; given up when space is needed
  // Freed, kept until the next checkpoints are durable; 0 right after opening.
  std::uint64_t pending = 0;
  std::uint64_t free = 0;      // includes what is reserved below
  std::uint64_t promised = 0;  // part of free that reservations and the emergency reserve hold
};

// One image as a user sees it.
struct ImageDetails {
  ImageInfo info{};
  std::vector<std::string> names{};
};

// Sizes of a layer in blocks, from its record: no tree is walked.
struct LayerSizes {
  std::uint64_t own = 0;        // blocks the layer owns: what removing it frees
  std::uint64_t exclusive = 0;  // own, if no layer is based on it; else 0
  std::uint64_t shared = 0;     // own, if layers are based on it; else 0
  std::uint64_t inherited = 0;  // blocks of its ancestors that its tree references
};
[[nodiscard]] inline LayerSizes sizes_of(LayerInfo const& info) {
  LayerSizes s;
  s.own = info.own_blocks;
  (info.children == 0 ? s.exclusive : s.shared) = info.own_blocks;
  s.inherited = info.used_blocks - (info.own_blocks - info.skeleton_blocks);
  return s;
}

// Has the layer no other name than the one its import gave it?  Then it goes with its last image.
[[nodiscard]] bool named_by_chain(LayerInfo const& layer);

// A layer's space now, in blocks: what statfs() and quotas go by.
struct LayerSpace {
  std::uint64_t own = 0;  // blocks the layer owns
  // What dirty data and operations under way may still take, worst case.
  std::uint64_t promised = 0;
  std::uint64_t quota = 0;  // own + promised stay below it; 0: no limit but the store's
  std::uint64_t used = 0;   // blocks its tree references, own and inherited
  std::uint64_t inodes = 0;
};

// Reads and writes of file data through the layer's object, since it was made.
struct LayerIo {
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, written_bytes = 0;
};

// Nanoseconds since 1970, or SOURCE_DATE_EPOCH if the environment sets it.
[[nodiscard]] std::int64_t now_ns();
[[nodiscard]] Timestamp now_timestamp();

}  // namespace lcfs
