// SPDX-License-Identifier: Apache-2.0
// Memory for single blocks.  Dirty file data is in pages of kBlockSize, aligned to it.  The general
// allocator spends nearly twice that on each, and returns little to the system.  Here are slabs of
// 64 blocks, the first of which holds the slab's own head.  Empty slabs are returned to the system,
// except a few.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "engine/types.h"
#include "format/layout.h"

namespace lcfs {

// kBlockSize bytes at a multiple of kBlockSize, uninitialised.  Throws std::bad_alloc.
[[nodiscard]] std::byte* allocate_block();
void free_block(std::byte* block);

// Owns one block.
class Block {
 public:
  Block() : data_(allocate_block()) {}
  [[nodiscard]] std::byte* data() { return data_.get(); }
  [[nodiscard]] std::byte const* data() const { return data_.get(); }
  [[nodiscard]] static constexpr std::size_t size() { return kBlockSize; }
  [[nodiscard]] std::span<std::byte> span() { return {data_.get(), kBlockSize}; }
  [[nodiscard]] std::span<std::byte const> span() const { return {data_.get(), kBlockSize}; }

 private:
  struct Free {
    void operator()(std::byte* block) const { free_block(block); }
  };
  std::unique_ptr<std::byte[], Free> data_;
};

}  // namespace lcfs
