// SPDX-License-Identifier: Apache-2.0
// Bytes in the import pipeline: reference-counted buffers that pass from stage to stage without
// being copied.  Thread safe: a Slice may be passed to any thread; its bytes do not change after
// that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace lcfs::importer {

// Size of a pooled buffer.  Not compared with other sizes yet: 256 KiB stays in the second-level
// cache from inflate to hash.
inline constexpr std::size_t kChunkBytes = std::size_t{256} << 10;

// Part of a buffer that lives as long as any Slice of it.
struct Slice {
  std::shared_ptr<std::byte> owner{};
  std::span<std::byte const> bytes{};

  [[nodiscard]] bool empty() const { return bytes.empty(); }
  [[nodiscard]] Slice part(std::size_t from, std::size_t count) const {
    return {owner, bytes.subspan(from, count)};
  }
};

// Buffers of kChunkBytes, reused when their last Slice is gone.  The queues that they wait in bound
// the number in use; at most kKept idle ones are kept.
class ChunkPool {
 public:
  ChunkPool();

  // Never null; uninitialised.  May outlive the pool.
  [[nodiscard]] std::shared_ptr<std::byte> get();

 private:
  static constexpr std::size_t kKept = 64;
  struct Free {
    std::mutex mu;
    std::vector<std::unique_ptr<std::byte[]>> idle;  // under mu
  };
  std::shared_ptr<Free> free_;
};

}  // namespace lcfs::importer
