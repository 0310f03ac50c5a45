// SPDX-License-Identifier: Apache-2.0
// The records of a layer: inline data and extents, that is, where a file's data is.
#include <algorithm>

#include "engine/layer/layer_tree.h"

namespace lcfs {

namespace {

// A record that was taken out, to be put back elsewhere.
struct Piece {
  std::uint64_t offset;
  std::vector<std::byte> record;
};

std::uint64_t end_of(std::uint64_t offset, ExtentInfo const& extent) {
  return offset + std::uint64_t{extent.count} * kBlockSize;
}

}  // namespace

// Looking -----------------------------------------------------------------------------------------

Status LayerTree::seek_extent(Tree::Cursor& cursor, Inode inode, std::uint64_t offset) const {
  LCFS_TRY(cursor.seek_floor({inode, kExtent, offset}));
  if (!on_extent(cursor, inode)) LCFS_TRY(cursor.seek({inode, kExtent, offset}));
  return {};
}

Result<std::optional<std::uint64_t>> LayerTree::next_mapped(Inode inode, std::uint64_t offset,
                                                            std::uint64_t* end) const {
  Tree::Cursor c(tree_);
  LCFS_TRY(c.seek({inode, kInline, 0}));
  if (c.valid() && c.key() == Key{inode, kInline, 0}) {
    *end = kBlockSize;
    return offset < kBlockSize ? std::optional(offset) : std::nullopt;
  }
  LCFS_TRY(seek_extent(c, inode, offset));
  while (on_extent(c, inode)) {
    LCFS_TRY_ASSIGN(auto const extent, extent_at(c));
    *end = end_of(c.key().offset, extent);
    if (*end > offset) return std::optional(std::max(offset, c.key().offset));
    LCFS_TRY(c.next());
  }
  return std::optional<std::uint64_t>{};
}

Result<std::vector<Layer::Run>> LayerTree::runs(Inode inode) const {
  std::vector<Layer::Run> out;
  LCFS_TRY(scan(tree_, {inode, kExtent, 0}, {inode, kExtent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const e, parse_extent(key, value, total_blocks()));
                  Layer::Run const run{key.offset, e.block * kBlockSize,
                                       std::uint64_t{e.count} * kBlockSize, e.owner};
                  if (!out.empty() && out.back().owner == run.owner &&
                      out.back().file_offset + out.back().length == run.file_offset &&
                      out.back().device_offset + out.back().length == run.device_offset) {
                    out.back().length += run.length;
                  } else {
                    out.push_back(run);
                  }
                  return true;
                }));
  return out;
}

// Mapping -----------------------------------------------------------------------------------------

Result<std::uint64_t> LayerTree::unmap(Inode inode, std::uint64_t begin, std::uint64_t end) {
  std::uint64_t removed = 0;
  std::vector<Piece> keep;
  auto cut = [&](Key const& key, Bytes value) -> Status {
    LCFS_TRY_ASSIGN(auto const extent, parse_extent(key, value, total_blocks()));
    std::uint64_t const at = key.offset, stop = end_of(at, extent);
    std::uint64_t const low = std::max(at, begin), high = std::min(stop, end);
    if (low >= high) {
      keep.push_back({at, {value.begin(), value.end()}});
      return {};
    }
    auto part = [&](std::uint64_t from, std::uint64_t to) {
      auto const skip = static_cast<std::size_t>((from - at) / kBlockSize);
      auto const count = static_cast<std::uint32_t>((to - from) / kBlockSize);
      Piece p{from, {}};
      encode_extent(
          {extent.block + skip, extent.owner, count, extent.checksums.subspan(skip, count)},
          p.record);
      keep.push_back(std::move(p));
    };
    if (at < low) part(at, low);
    if (high < stop) part(high, stop);
    std::uint64_t const gone = (high - low) / kBlockSize;
    drop_blocks({extent.block + (low - at) / kBlockSize, gone}, extent.owner);
    removed += gone;
    return {};
  };
  // An extent that begins before `begin` may reach into the range.
  std::uint64_t from = begin;
  {
    Tree::Cursor c(tree_);
    LCFS_TRY(c.seek_floor({inode, kExtent, begin}));
    if (on_extent(c, inode)) {
      LCFS_TRY_ASSIGN(auto const extent, extent_at(c));
      if (end_of(c.key().offset, extent) > begin) from = c.key().offset;
    }
  }
  if (end == 0) return removed;
  LCFS_TRY(tree_.erase_range({inode, kExtent, from}, {inode, kExtent, end - 1}, cut));
  for (auto const& p : keep) LCFS_TRY(tree_.put({inode, kExtent, p.offset}, p.record));
  return removed;
}

Status LayerTree::map(Inode inode, std::uint64_t offset, Extent blocks,
                      std::vector<std::uint32_t> const& sums) {
  used_blocks_ += blocks.count;
  std::vector<std::byte> record;
  std::vector<le32> words;
  std::size_t done = 0;
  // Goes on where the extent before ends, in the file and on the device: one record for both.
  Tree::Cursor c(tree_);
  LCFS_TRY(c.seek_floor({inode, kExtent, offset}));
  if (on_extent(c, inode) && c.key().offset < offset) {
    Key const key = c.key();
    LCFS_TRY_ASSIGN(auto const before, extent_at(c));
    if (end_of(key.offset, before) == offset && before.block + before.count == blocks.start &&
        before.owner == owner() && before.count < kMaxExtentBlocks) {
      auto const n = std::min<std::size_t>(kMaxExtentBlocks - before.count, blocks.count);
      words.assign(before.checksums.begin(), before.checksums.end());
      for (std::size_t i = 0; i < n; ++i) words.emplace_back(sums[i]);
      encode_extent({before.block, owner(), static_cast<std::uint32_t>(words.size()), words},
                    record);
      LCFS_TRY(tree_.put(key, record));
      done = n;
    }
  }
  while (done < blocks.count) {
    auto const n = std::min<std::size_t>(kMaxExtentBlocks, blocks.count - done);
    words.clear();
    for (std::size_t i = 0; i < n; ++i) words.emplace_back(sums[done + i]);
    encode_extent({blocks.start + done, owner(), static_cast<std::uint32_t>(n), words}, record);
    LCFS_TRY(tree_.put({inode, kExtent, offset + done * kBlockSize}, record));
    done += n;
  }
  return {};
}

Status LayerTree::map_inherited(Inode inode, std::uint64_t offset, ExtentInfo const& extent) {
  encode_extent(extent, record_);
  LCFS_TRY(tree_.put({inode, kExtent, offset}, record_));
  used_blocks_ += extent.count;
  return {};
}

Status LayerTree::append_extent(Inode inode, std::uint64_t offset, std::uint64_t block,
                                std::vector<std::uint32_t> const& sums) {
  words_.clear();
  for (std::uint32_t const sum : sums) words_.emplace_back(sum);
  encode_extent({block, owner(), static_cast<std::uint32_t>(sums.size()), words_}, record_);
  LCFS_TRY(tree_.append({inode, kExtent, offset}, record_));
  used_blocks_ += sums.size();
  return {};
}

// Renumbering -------------------------------------------------------------------------------------

Status LayerTree::split_extent(Inode inode, std::uint64_t offset) {
  std::vector<std::byte> left, right;
  Key key;
  {
    Tree::Cursor c(tree_);
    LCFS_TRY(c.seek_floor({inode, kExtent, offset}));
    if (!on_extent(c, inode)) return {};
    key = c.key();
    LCFS_TRY_ASSIGN(auto const extent, extent_at(c));
    auto const head = static_cast<std::uint32_t>(
        std::min<std::uint64_t>((offset - key.offset) / kBlockSize, extent.count));
    if (head == 0 || head == extent.count) return {};
    encode_extent({extent.block, extent.owner, head, extent.checksums.first(head)}, left);
    encode_extent(
        {extent.block + head, extent.owner, extent.count - head, extent.checksums.subspan(head)},
        right);
  }
  LCFS_TRY(tree_.put(key, left));
  return tree_.put({inode, kExtent, offset}, right);
}

Result<std::vector<std::uint64_t>> LayerTree::extent_batches(Inode inode, std::uint64_t from,
                                                             std::size_t bytes) const {
  std::vector<std::uint64_t> batches;
  std::size_t in_this = bytes;
  LCFS_TRY(scan(tree_, {inode, kExtent, from}, {inode, kExtent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  if (in_this >= bytes) {
                    batches.push_back(key.offset);
                    in_this = 0;
                  }
                  in_this += value.size() + sizeof(LeafSlot);
                  return true;
                }));
  // An extent that reaches over `from` is split later: its second half goes too.
  if (batches.empty() || batches.front() != from) batches.insert(batches.begin(), from);
  return batches;
}

Status LayerTree::move_extents(Inode inode, std::uint64_t low, std::uint64_t high,
                               std::uint64_t from, std::uint64_t to) {
  std::vector<Piece> pieces;
  LCFS_TRY(tree_.erase_range({inode, kExtent, low}, {inode, kExtent, high},
                             [&](Key const& key, Bytes value) -> Status {
                               pieces.push_back({key.offset, {value.begin(), value.end()}});
                               return {};
                             }));
  for (auto const& p : pieces)
    LCFS_TRY(tree_.put({inode, kExtent, p.offset - from + to}, p.record));
  return {};
}

}  // namespace lcfs
