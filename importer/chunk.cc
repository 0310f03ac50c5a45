// SPDX-License-Identifier: Apache-2.0
#include "importer/chunk.h"

#include <utility>

namespace lcfs::importer {

ChunkPool::ChunkPool() : free_(std::make_shared<Free>()) { free_->idle.reserve(kKept); }

std::shared_ptr<std::byte> ChunkPool::get() {
  std::unique_ptr<std::byte[]> bytes;
  {
    std::lock_guard const lock(free_->mu);
    if (!free_->idle.empty()) {
      bytes = std::move(free_->idle.back());
      free_->idle.pop_back();
    }
  }
  if (!bytes) bytes.reset(new std::byte[kChunkBytes]);
  return {bytes.release(), [pool = free_](std::byte* p) {
            std::unique_ptr<std::byte[]> back(p);
            std::lock_guard const lock(pool->mu);
            if (pool->idle.size() < kKept) pool->idle.push_back(std::move(back));
          }};
}

}  // namespace lcfs::importer
