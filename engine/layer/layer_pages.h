// SPDX-License-Identifier: Apache-2.0
// Pages of file data in memory, and how they are handed over for writing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/layer/block_pool.h"
#include "engine/types.h"
#include "format/layout.h"

namespace lcfs {

class LayerImpl;

constexpr std::uint64_t round_down(std::uint64_t v) { return v & ~std::uint64_t{kBlockSize - 1}; }
constexpr std::uint64_t round_up(std::uint64_t v) { return round_down(v + kBlockSize - 1); }

// One page of file data in memory.
struct Page {
  Block bytes;
  std::uint64_t number = 0;  // which page of its file it is; only insert and collapse change it
  bool writing = false;      // handed over: its bytes are constant
};
using PageRef = std::shared_ptr<Page>;

// Data handed over for writing, outside all locks.
struct IoBatch {
  struct Piece {
    std::uint64_t device_offset = 0;
    Inode inode = 0;
    std::vector<PageRef> pages{};
  };
  std::shared_ptr<LayerImpl> layer{};  // whose it is: told when it is written
  std::vector<Piece> pieces{};
};

}  // namespace lcfs
