// SPDX-License-Identifier: Apache-2.0
// Bytes on their way through the import: reference-counted buffers that go from stage to stage
// without being copied. Thread safe: a Slice may be handed to any thread; its bytes don't change
// once it was handed on.
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

// Buffers of kChunkBytes, used again when their last Slice goes.  The number in use is bounded by
// the queues they stand in; at most kKept idle ones are kept.
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
