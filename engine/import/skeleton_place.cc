// SPDX-License-Identifier: Apache-2.0
#include "engine/import/skeleton_place.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "format/hash.h"

namespace lcfs {

bool SkeletonPlacer::all_kept() const {
  for (std::size_t i = 0; i < delta_.files.size(); ++i) {
    if (S_ISREG(delta_.files[i].mode) && delta_.files[i].size != 0 && !is_kept(i)) return false;
  }
  return true;
}

Result<PlacedSkeleton> SkeletonPlacer::place(SkeletonWriter& skeleton) {
  PlacedSkeleton placed;
  if (skeleton.size() == 0) return placed;
  std::unique_ptr<SkeletonWriter> whole;
  if (!all_kept()) {
    LCFS_TRY_ASSIGN(whole, with_lost_bodies(skeleton));
    if (whole->size() == 0) return placed;
  }
  LCFS_TRY(write((whole ? *whole : skeleton).log(), placed));
  return placed;
}

Result<std::unique_ptr<SkeletonWriter>> SkeletonPlacer::with_lost_bodies(SkeletonWriter& skeleton) {
  auto whole = std::make_unique<SkeletonWriter>(store_.space, store_.device);
  std::uint64_t at = 0;
  std::vector<std::byte> window(64u << 10);
  SkeletonDecoder decoder([&]() -> Result<std::span<std::byte const>> {
    auto const part =
        std::span(window).first(std::min<std::uint64_t>(window.size(), skeleton.log().end() - at));
    LCFS_TRY(skeleton.log().read(at, part));
    at += part.size();
    return std::span<std::byte const>(part);
  });
  for (;;) {
    LCFS_TRY_ASSIGN(auto const piece, decoder.next());
    if (piece.kind == SkeletonPiece::kEnd) break;
    if (piece.kind == SkeletonPiece::kLiteral) {
      LCFS_TRY(whole->literal(piece.bytes));
    } else if (is_kept(piece.file)) {
      LCFS_TRY(whole->body(piece.file, piece.offset, piece.length));
    } else {
      LCFS_TRY(copy_body(piece, *whole));
    }
  }
  LCFS_TRY(whole->finish());
  return whole;
}

Status SkeletonPlacer::next_extent() {
  LCFS_TRY(content_.read(log_at_, {reinterpret_cast<std::byte*>(&extent_), sizeof extent_}));
  log_at_ += sizeof extent_;
  if (extent_.count > kMaxExtentBlocks) return Error::corrupt("content log: extent too long");
  sums_.resize(extent_.count);
  if (extent_.count != 0)
    LCFS_TRY(content_.read(log_at_, std::as_writable_bytes(std::span(sums_))));
  log_at_ += sums_.size() * sizeof(std::uint32_t);
  loaded_ = false;
  return {};
}

Status SkeletonPlacer::copy_body(SkeletonPiece const& piece, SkeletonWriter& into) {
  static constexpr std::array<std::byte, kBlockSize> kZeroes{};
  auto const& file = delta_.files[piece.file];
  if (file_ != piece.file) {
    file_ = piece.file;
    small_.clear();
    extent_ = {};
    log_at_ = file.data - 1;
    std::byte tag{};
    if (file.data != 0) LCFS_TRY(content_.read(log_at_++, {&tag, 1}));
    if (tag == kInlineContent) {
      std::uint32_t size = 0;
      LCFS_TRY(content_.read(log_at_, std::as_writable_bytes(std::span{&size, 1})));
      if (size > kInlineMax) return Error::corrupt("content log: inline data too long");
      small_.resize(size);
      LCFS_TRY(content_.read(log_at_ + sizeof size, small_));
    } else if (tag == kExtentContent) {
      LCFS_TRY(next_extent());
    }
  }
  std::uint64_t at = piece.offset;
  std::uint64_t const end = at + piece.length;
  while (at < end) {
    if (at < small_.size()) {
      auto const part =
          std::span(small_).subspan(at, std::min<std::uint64_t>(small_.size(), end) - at);
      LCFS_TRY(into.literal(part));
      at += part.size();
      continue;
    }
    std::uint64_t const extent_end =
        extent_.file_offset + std::uint64_t{extent_.count} * kBlockSize;
    if (extent_.count != 0 && extent_end <= at) {
      LCFS_TRY(next_extent());
      continue;
    }
    if (extent_.count == 0 || at < extent_.file_offset) {  // a hole
      std::uint64_t const stop = extent_.count == 0 ? end : std::min(end, extent_.file_offset);
      auto const n = std::min<std::uint64_t>(stop - at, kZeroes.size());
      LCFS_TRY(into.literal(std::span(kZeroes).first(n)));
      at += n;
      continue;
    }
    std::size_t const bytes = std::size_t{extent_.count} * kBlockSize;
    if (!loaded_) {
      if (!buffer_) buffer_ = AlignedBuffer(kMaxExtentBlocks * kBlockSize);
      LCFS_TRY(store_.device.read(extent_.block * kBlockSize, buffer_.span().first(bytes)));
      for (std::uint32_t i = 0; i < extent_.count; ++i) {
        if (crc32c(buffer_.span().subspan(std::size_t{i} * kBlockSize, kBlockSize)) !=
            sums_[i]) {  // I6
          return Error::corrupt("data read back differs from what was written")
              .in(store_.device.name())
              .at((extent_.block + i) * kBlockSize);
        }
      }
      loaded_ = true;
    }
    std::uint64_t const from = at - extent_.file_offset, n = std::min(end - at, bytes - from);
    LCFS_TRY(into.literal(std::span(buffer_.data() + from, n)));
    at += n;
  }
  return {};
}

Status SkeletonPlacer::write(ContentLog& log, PlacedSkeleton& into) {
  into.info.size = log.end();
  WriteQueue::Sink sink;
  auto write_all = [&]() -> Status {
    for (std::uint64_t at = 0; at < log.end();) {
      std::uint64_t const left = log.end() - at;
      std::uint64_t const want =
          std::min<std::uint64_t>(kMaxExtentBlocks, (left + kBlockSize - 1) / kBlockSize);
      auto got = space_.allocate_data(want);
      if (!got && got.error().code == Errc::kNoSpace && store_.space.counts().pending != 0) {
        LCFS_TRY(store_.room.make());
        got = space_.allocate_data(want);
      }
      if (!got) return std::move(got).error();
      std::size_t const bytes = got->count * kBlockSize,
                        used = std::min<std::uint64_t>(bytes, left);
      auto buffer = queue_.take_buffer();
      SkeletonExtent extent{got->start, {}};
      auto const read = log.read(at, buffer.span().first(used));
      if (read) {
        std::memset(buffer.data() + used, 0, bytes - used);
        for (std::uint64_t i = 0; i < got->count; ++i)
          extent.sums.push_back(crc32c(buffer.span().subspan(i * kBlockSize, kBlockSize)));
        queue_.submit(got->start * kBlockSize, std::move(buffer), bytes, sink);
      } else {
        queue_.return_buffer(std::move(buffer));
        return read;
      }
      into.extents.push_back(std::move(extent));
      at += used;
    }
    return {};
  };
  auto done = write_all();
  auto written = queue_.wait(sink);
  return done ? std::move(written) : std::move(done);
}

}  // namespace lcfs
