// SPDX-License-Identifier: Apache-2.0
// Memory for single blocks.  Dirty file data is pages of kBlockSize, aligned to it; the general
// allocator spends nearly twice that on each, and gives little back.  Slabs of 64 blocks, the first
// of which is the slab's own head; an empty slab goes back to the system, but for a few.  Any
// thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "format/layout.h"

namespace lcfs {

// kBlockSize bytes at a multiple of kBlockSize, uninitialised.  Throws std::bad_alloc.
[[nodiscard]] std::byte* allocate_block();
void free_block(std::byte* block);

// One block of one's own.
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
