// SPDX-License-Identifier: Apache-2.0
#include "engine/import/content_log.h"

#include <algorithm>
#include <cstring>

#include "format/hash.h"

namespace lcfs {

Status ContentLog::append(std::span<std::byte const> bytes) {
  tail_.insert(tail_.end(), bytes.begin(), bytes.end());
  end_ += bytes.size();
  if (tail_.size() >= kKeep) return spill();
  return {};
}

Status ContentLog::finish() {
  if (tail_.size() > kKeepFinished) LCFS_TRY(spill());
  tail_.shrink_to_fit();
  return {};
}

Status ContentLog::spill() {
  constexpr std::uint64_t kBlocks = kSegment / kBlockSize;
  AlignedBuffer buffer(kSegment);
  std::size_t done = 0;
  for (; tail_.size() - done >= kSegment; done += kSegment) {
    LCFS_TRY_ASSIGN(Extent const e, space_.allocate(kBlocks, kBlocks, 0, 0, Urgency::kOrdinary));
    blocks_.push_back(e);
    std::memcpy(buffer.data(), tail_.data() + done, kSegment);
    LCFS_TRY(device_.write(e.start * kBlockSize, buffer.span()));
    segments_.push_back({e.start, crc32c(buffer.span())});
  }
  tail_.erase(tail_.begin(), tail_.begin() + static_cast<std::ptrdiff_t>(done));
  return {};
}

Status ContentLog::read(std::uint64_t at, std::span<std::byte> into) {
  while (!into.empty()) {
    std::size_t const index = at / kSegment;
    if (index >= segments_.size()) {
      std::uint64_t const from = at - segments_.size() * kSegment;
      if (from > tail_.size() || into.size() > tail_.size() - from)
        return Error::corrupt("content log read past its end");
      std::memcpy(into.data(), tail_.data() + from, into.size());
      return {};
    }
    if (loaded_ != index) {
      if (!window_) window_ = AlignedBuffer(kSegment);
      LCFS_TRY(device_.read(segments_[index].block * kBlockSize, window_.span()));
      if (crc32c(window_.span()) != segments_[index].checksum) {
        return Error::corrupt("scratch data read back differs from what was written")
            .in(device_.name())
            .at(segments_[index].block * kBlockSize);
      }
      loaded_ = index;
    }
    std::size_t const from = at % kSegment, n = std::min(into.size(), kSegment - from);
    std::memcpy(into.data(), window_.data() + from, n);
    into = into.subspan(n);
    at += n;
  }
  return {};
}

}  // namespace lcfs
