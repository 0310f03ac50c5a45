// SPDX-License-Identifier: Apache-2.0
// Reading file data in two steps.
//
// What is to be read from the device is found under the layer's lock (ReadPlan) and read without it
// (DataReader): a writer of the layer does not wait for the device.  Blocks are never overwritten
// where they stand, so a plan stays true until the blocks that it names are used again; LayerImpl
// knows when that may be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "device/device.h"
#include "engine/layer/layer_tree.h"
#include "engine/store/read_ahead.h"

namespace lcfs {

// What one reader wants from the device: blocks that stand side by side there and in its memory.
struct ReadPlan {
  struct Piece {
    std::uint64_t block = 0, count = 0;
    std::uint64_t file_offset = 0;  // of the first block
    std::size_t skip = 0;           // bytes of it that are not wanted
    std::span<std::byte> into{};
  };
  std::vector<Piece> pieces{};
  std::vector<std::uint32_t> sums{};  // of all blocks, one piece after the other

  // `into` lies inside the extent.
  void add(ExtentInfo const& extent, std::uint64_t extent_offset, std::uint64_t offset,
           std::span<std::byte> into);
  // What `tree` has of [offset, offset + into.size()): inline data and gaps are filled in at once,
  // extents are planned.  The cursor is of that tree, and may stand anywhere.
  Status add_placed(LayerTree const& tree, Tree::Cursor& cursor, Inode inode, std::uint64_t offset,
                    std::span<std::byte> into);
};

// Carries plans out and compares checksums (I6).
// Threads: any; no lock is needed.
class DataReader {
 public:
  // verify: compare checksums.
  DataReader(Device& device, ReadAheadDevice& ahead, bool verify)
      : device_(device), ahead_(ahead), verify_(verify) {}

  // Whose data it is: for the error if it is damaged.
  struct File {
    LayerId layer = 0;
    Inode inode = 0;
  };
  // One device read each piece, into the reader's memory if that is possible.  Bytes up to `room`
  // may be overwritten.  around: what stands beside it is likely to be wanted too.
  Status run(File const& file, ReadPlan const& plan, std::byte const* room,
             bool around = false) const;
  // Of many reads: each piece with its file and its checksums.
  struct ManyPiece {
    ReadPlan::Piece piece{};
    Inode inode = 0;
    std::uint32_t const* sums = nullptr;
  };
  // Sorts the pieces by their place, and reads neighbours at once.
  Status run_many(LayerId layer, std::vector<ManyPiece>& pieces) const;

 private:
  Status check(File const& file, ReadPlan::Piece const& piece, std::span<std::byte const> blocks,
               std::uint32_t const* sums) const;

  Device& device_;
  ReadAheadDevice& ahead_;
  bool const verify_;
};

}  // namespace lcfs
