// SPDX-License-Identifier: Apache-2.0
// A log of what the files of a layer hold, from the moment their data is placed until the layer is
// stacked: small files' bytes, large files' extents and checksums.
//
// It is written once and read once, both in order.  The first few MiB stay in memory.  The rest
// goes to free blocks of the store that no checkpoint ever names: memory does not grow with the
// layer (I7), and a crash leaves nothing behind. Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/space/space_map.h"

namespace lcfs {

class ContentLog {
 public:
  ContentLog(SpaceMap& space, Device& device) : space_(space), device_(device) {}
  ~ContentLog() { space_.give_back(blocks_, false); }
  ContentLog(ContentLog const&) = delete;
  ContentLog& operator=(ContentLog const&) = delete;

  [[nodiscard]] std::uint64_t end() const { return end_; }
  Status append(std::span<std::byte const> bytes);
  // Reads bytes that were appended; ascending offsets are fast.
  Status read(std::uint64_t at, std::span<std::byte> into);
  // Nothing more will be appended: from now on it keeps little in memory.
  Status finish();

  static constexpr std::size_t kSegment = 1u << 20;       // bytes written at a time
  static constexpr std::size_t kKeep = 4u << 20;          // bytes in memory while appending
  static constexpr std::size_t kKeepFinished = 1u << 20;  // and after

 private:
  struct Segment {
    std::uint64_t block = 0;
    std::uint32_t checksum = 0;
  };
  Status spill();

  SpaceMap& space_;
  Device& device_;
  std::vector<Segment> segments_;  // the first ones, kSegment bytes each
  std::vector<Extent> blocks_;     // where they are
  std::vector<std::byte> tail_;    // what follows them
  std::uint64_t end_ = 0;
  std::size_t loaded_ = ~std::size_t{0};  // segment in window_
  AlignedBuffer window_;
};

}  // namespace lcfs
