// SPDX-License-Identifier: Apache-2.0
#include "engine/layer/read_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "format/hash.h"

namespace lcfs {

namespace {
constexpr std::uint64_t kGroupBlocks = 512;  // of one device read: 2 MiB
// That nobody asked for are read along, rather than read twice.
constexpr std::uint64_t kGapBlocks = 4;
}  // namespace

void ReadPlan::add(ExtentInfo const& extent, std::uint64_t extent_offset, std::uint64_t offset,
                   std::span<std::byte> into) {
  // Whole blocks are read, because checksums are of whole blocks.
  std::uint64_t const first = (offset - extent_offset) / kBlockSize;
  std::uint64_t const last = (offset + into.size() - 1 - extent_offset) / kBlockSize;
  std::size_t const skip = offset % kBlockSize;
  for (std::uint64_t i = first; i <= last; ++i) sums.push_back(extent.checksums[i].get());
  std::uint64_t const count = last - first + 1;
  if (!pieces.empty() && skip == 0) {
    auto& p = pieces.back();
    if (p.block + p.count == extent.block + first && p.into.data() + p.into.size() == into.data() &&
        p.skip + p.into.size() == p.count * kBlockSize) {
      p.count += count;
      p.into = {p.into.data(), p.into.size() + into.size()};
      return;
    }
  }
  pieces.push_back({extent.block + first, count, offset - skip, skip, into});
}

Status ReadPlan::add_placed(LayerTree const& tree, Tree::Cursor& c, Inode inode,
                            std::uint64_t offset, std::span<std::byte> into) {
  std::uint64_t const end = offset + into.size();
  Key const small{inode, kInline, 0};
  LCFS_TRY(c.seek_near(small));
  if (c.valid() && c.key() == small) {
    std::memset(into.data(), 0, into.size());
    auto const value = c.value();
    if (offset < value.size())
      std::memcpy(into.data(), value.data() + offset,
                  std::min<std::size_t>(into.size(), value.size() - offset));
    return {};
  }
  if (offset != 0) LCFS_TRY(tree.seek_extent(c, inode, offset));
  std::uint64_t done = offset;  // everything below is filled in, or planned
  while (LayerTree::on_extent(c, inode) && c.key().offset < end && done < end) {
    std::uint64_t const at = c.key().offset;
    LCFS_TRY_ASSIGN(auto const extent, tree.extent_at(c));
    std::uint64_t const stop = at + std::uint64_t{extent.count} * kBlockSize;
    if (stop > done) {
      std::uint64_t const low = std::max(at, done), high = std::min(stop, end);
      if (low > done) std::memset(into.data() + (done - offset), 0, low - done);
      add(extent, at, low, into.subspan(low - offset, high - low));
      done = high;
    }
    LCFS_TRY(c.next());
  }
  if (done < end) std::memset(into.data() + (done - offset), 0, end - done);
  return {};
}

Status DataReader::check(File const& file, ReadPlan::Piece const& piece,
                         std::span<std::byte const> blocks, std::uint32_t const* sums) const {
  if (!verify_) return {};
  for (std::uint64_t i = 0; i < piece.count; ++i) {
    if (crc32c(blocks.subspan(i * kBlockSize, kBlockSize)) == sums[i]) continue;  // I6
    return Error::corrupt(
               fmt::format("data checksum of layer {}, inode {}, file offset {} does not match",
                           file.layer, file.inode, piece.file_offset + i * kBlockSize))
        .in(device_.name())
        .at((piece.block + i) * kBlockSize);
  }
  return {};
}

Status DataReader::run(File const& file, ReadPlan const& plan, std::byte const* room,
                       bool around) const {
  std::uint32_t const* sums = plan.sums.data();
  for (auto const& p : plan.pieces) {
    std::size_t const bytes = p.count * kBlockSize;
    bool const direct =
        p.skip == 0 && reinterpret_cast<std::uintptr_t>(p.into.data()) % kBlockSize == 0 &&
        (p.into.size() == bytes || static_cast<std::size_t>(room - p.into.data()) >= bytes);
    AlignedBuffer bounce;
    std::span<std::byte> blocks{p.into.data(), bytes};
    if (!direct) {
      bounce = AlignedBuffer(bytes);
      blocks = bounce.span();
    }
    LCFS_TRY(around ? ahead_.read_around(p.block * kBlockSize, blocks)
                    : device_.read(p.block * kBlockSize, blocks));
    LCFS_TRY(check(file, p, blocks, sums));
    sums += p.count;
    if (!direct) std::memcpy(p.into.data(), blocks.data() + p.skip, p.into.size());
  }
  return {};
}

Status DataReader::run_many(LayerId layer, std::vector<ManyPiece>& pieces) const {
  std::sort(pieces.begin(), pieces.end(),
            [](ManyPiece const& a, ManyPiece const& b) { return a.piece.block < b.piece.block; });
  AlignedBuffer buffer;
  for (std::size_t i = 0; i < pieces.size();) {
    std::uint64_t const first = pieces[i].piece.block;
    std::uint64_t end = first + pieces[i].piece.count;
    std::size_t to = i + 1;
    for (; to < pieces.size(); ++to) {
      auto const& p = pieces[to].piece;
      if (p.block > end + kGapBlocks || p.block + p.count > first + kGroupBlocks) break;
      end = std::max(end, p.block + p.count);
    }
    std::size_t const bytes = (end - first) * kBlockSize;
    if (buffer.size() < bytes)
      buffer = AlignedBuffer(std::max<std::size_t>(bytes, kGroupBlocks * kBlockSize));
    LCFS_TRY(device_.read(first * kBlockSize, buffer.span().first(bytes)));
    for (; i < to; ++i) {
      auto const& p = pieces[i].piece;
      auto const blocks =
          buffer.span().subspan((p.block - first) * kBlockSize, p.count * kBlockSize);
      LCFS_TRY(check({layer, pieces[i].inode}, p, blocks, pieces[i].sums));
      std::memcpy(p.into.data(), blocks.data() + p.skip, p.into.size());
    }
  }
  return {};
}

}  // namespace lcfs
