// SPDX-License-Identifier: Apache-2.0
// Contents of two files, block by block: the same block is equal, blocks with different checksums
// differ, and the rest is read.
#include <algorithm>
#include <cstring>

#include "engine/diff/diff_impl.h"
#include "format/hash.h"

namespace lcfs {

namespace {
constexpr std::uint64_t kWindow = 1024;  // blocks mapped at once
using BlockRef = LayerSnapshot::BlockRef;

std::uint64_t down(std::uint64_t n) { return n / kBlockSize * kBlockSize; }
std::uint64_t up(std::uint64_t n) { return (n + kBlockSize - 1) / kBlockSize * kBlockSize; }

// The checksum of a block of zeroes.
std::uint32_t zero_sum() {
  static std::uint32_t const sum = crc32c(std::vector<std::byte>(kBlockSize));
  return sum;
}

enum class Verdict : std::uint8_t { kSame, kDiffers, kUnsure };
Verdict judge(BlockRef const& a, BlockRef const& b, bool whole) {
  if (a.kind == BlockRef::kHole && b.kind == BlockRef::kHole) return Verdict::kSame;
  bool const data_a = a.kind == BlockRef::kData, data_b = b.kind == BlockRef::kData;
  if (data_a && data_b && a.block == b.block) return Verdict::kSame;
  // Only a part of the block that the file ends in is visible, but the checksum covers all of it.
  if (!whole || a.kind == BlockRef::kSmall || b.kind == BlockRef::kSmall) return Verdict::kUnsure;
  return (data_a ? a.sum : zero_sum()) == (data_b ? b.sum : zero_sum()) ? Verdict::kUnsure
                                                                        : Verdict::kDiffers;
}
}  // namespace

Result<std::vector<ByteRange>> ContentDiff::compare(Inode a, std::uint64_t size_a, Inode b,
                                                    std::uint64_t size_b,
                                                    std::vector<ByteRange> const* within) {
  ia_ = a;
  ib_ = b;
  common_ = std::min(size_a, size_b);
  found_.clear();
  std::uint64_t const longer = std::max(size_a, size_b);
  // The block in which the shorter one ends is reported whole, without reading it.
  std::uint64_t const end = size_a == size_b ? common_ : down(common_);
  if (within == nullptr) {
    LCFS_TRY(compare_range(0, end));
  } else {
    auto ranges = *within;
    std::sort(ranges.begin(), ranges.end(),
              [](ByteRange const& x, ByteRange const& y) { return x.offset < y.offset; });
    std::uint64_t done = 0;
    for (auto const& r : ranges) {
      std::uint64_t const from = std::max(done, r.offset), to = std::min(end, r.offset + r.length);
      if (from < to) LCFS_TRY(compare_range(from, to));
      done = std::max(done, to);
    }
  }
  if (size_a != size_b) differs(end, longer);
  return std::move(found_);
}

void ContentDiff::differs(std::uint64_t begin, std::uint64_t end) {
  if (!found_.empty() && found_.back().offset + found_.back().length >= begin) {
    found_.back().length = end - found_.back().offset;
  } else {
    found_.push_back({begin, end - begin});
  }
}

Status ContentDiff::compare_range(std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t at = begin; at < end;) {
    LCFS_TRY_ASSIGN(std::uint64_t const next_a, a_.next_data(ia_, at));
    LCFS_TRY_ASSIGN(std::uint64_t const next_b, b_.next_data(ib_, at));
    at = std::max(at, down(std::min(next_a, next_b)));
    if (at >= end) break;
    std::uint64_t const blocks = std::min(kWindow, (up(end) - at) / kBlockSize);
    LCFS_TRY(compare_window(at / kBlockSize, blocks));
    at += blocks * kBlockSize;
  }
  return {};
}

Status ContentDiff::compare_window(std::uint64_t first, std::uint64_t blocks) {
  refs_a_.resize(blocks);
  refs_b_.resize(blocks);
  LCFS_TRY(a_.map(ia_, first, refs_a_));
  LCFS_TRY(b_.map(ib_, first, refs_b_));
  auto const verdict = [&](std::uint64_t i) {
    return judge(refs_a_[i], refs_b_[i], (first + i + 1) * kBlockSize <= common_);
  };
  for (std::uint64_t i = 0; i < blocks;) {
    auto const v = verdict(i);
    std::uint64_t n = 1;
    while (i + n < blocks && verdict(i + n) == v) ++n;
    std::uint64_t const from = (first + i) * kBlockSize;
    if (v == Verdict::kDiffers) differs(from, std::min(common_, from + n * kBlockSize));
    if (v == Verdict::kUnsure) LCFS_TRY(compare_bytes(first + i, n));
    i += n;
  }
  return {};
}

Status ContentDiff::compare_bytes(std::uint64_t first, std::uint64_t blocks) {
  if (bytes_a_.size() == 0) {
    bytes_a_ = AlignedBuffer(LayerSnapshot::kMaxRead);
    bytes_b_ = AlignedBuffer(LayerSnapshot::kMaxRead);
  }
  constexpr std::uint64_t kMost = LayerSnapshot::kMaxRead / kBlockSize;
  while (blocks != 0) {
    std::uint64_t const n = std::min(blocks, kMost);
    LCFS_TRY(a_.read(ia_, first * kBlockSize, bytes_a_, n * kBlockSize));
    LCFS_TRY(b_.read(ib_, first * kBlockSize, bytes_b_, n * kBlockSize));
    for (std::uint64_t i = 0; i < n; ++i) {
      std::uint64_t const from = (first + i) * kBlockSize,
                          to = std::min(common_, from + kBlockSize);
      if (from >= to) break;
      if (std::memcmp(bytes_a_.data() + i * kBlockSize, bytes_b_.data() + i * kBlockSize,
                      to - from) != 0)
        differs(from, to);
    }
    first += n;
    blocks -= n;
  }
  return {};
}

}  // namespace lcfs
