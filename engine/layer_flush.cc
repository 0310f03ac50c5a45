// SPDX-License-Identifier: Apache-2.0
// Layers: giving dirty pages their place.  Space is assigned when the data is complete, one run a
// stretch; blocks of zeroes become holes; small files go into the tree itself.
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "engine/layer_change.h"
#include "engine/zero.h"
#include "format/hash.h"

namespace lcfs {

// Removes the mapping of [begin, end); the outer parts of extents that reach beyond stay.
Result<std::uint64_t> LayerImpl::unmap(Inode inode, std::uint64_t begin, std::uint64_t end) {
  std::uint64_t removed = 0;
  struct Piece {
    std::uint64_t offset;
    std::vector<std::byte> record;
  };
  std::vector<Piece> keep;
  auto cut = [&](Key const& key, Bytes value) LCFS_NO_TSA -> Status {
    LCFS_TRY_ASSIGN(auto const extent, parse_extent(key, value, store_.space.total()));
    std::uint64_t const at = key.offset, stop = at + std::uint64_t{extent.count} * kBlockSize;
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
    free_blocks(extent.block + (low - at) / kBlockSize, gone, extent.owner);
    removed += gone;
    return {};
  };
  // An extent that begins before `begin` may reach into the range.
  std::uint64_t from = begin;
  {
    Tree::Cursor c(tree_);
    LCFS_TRY(c.seek_floor({inode, kExtent, begin}));
    if (c.valid() && c.key().inode == inode && c.key().kind == kExtent) {
      LCFS_TRY_ASSIGN(auto const extent, parse_extent(c.key(), c.value(), store_.space.total()));
      if (c.key().offset + std::uint64_t{extent.count} * kBlockSize > begin) from = c.key().offset;
    }
  }
  if (end == 0) return removed;
  LCFS_TRY(tree_.erase_range({inode, kExtent, from}, {inode, kExtent, end - 1}, cut));
  for (auto const& p : keep) LCFS_TRY(tree_.put({inode, kExtent, p.offset}, p.record));
  return removed;
}

// Maps blocks that were just allocated; the range is unmapped.  sums: one per block.
Status LayerImpl::map_extent(Inode inode, std::uint64_t offset, Extent blocks,
                             std::vector<std::uint32_t> const& sums) {
  used_blocks_ += blocks.count;
  std::vector<std::byte> record;
  std::vector<le32> words;
  std::size_t done = 0;
  // Goes on where the extent before ends, in the file and on the device: one record for both.
  Tree::Cursor c(tree_);
  LCFS_TRY(c.seek_floor({inode, kExtent, offset}));
  if (c.valid() && c.key().inode == inode && c.key().kind == kExtent && c.key().offset < offset) {
    Key const key = c.key();
    LCFS_TRY_ASSIGN(auto const before, parse_extent(key, c.value(), store_.space.total()));
    if (key.offset + std::uint64_t{before.count} * kBlockSize == offset &&
        before.block + before.count == blocks.start && before.owner == id() &&
        before.count < kMaxExtentBlocks) {
      auto const n = std::min<std::size_t>(kMaxExtentBlocks - before.count, blocks.count);
      words.assign(before.checksums.begin(), before.checksums.end());
      for (std::size_t i = 0; i < n; ++i) words.emplace_back(sums[i]);
      encode_extent({before.block, id(), static_cast<std::uint32_t>(words.size()), words}, record);
      LCFS_TRY(tree_.put(key, record));
      done = n;
    }
  }
  while (done < blocks.count) {
    auto const n = std::min<std::size_t>(kMaxExtentBlocks, blocks.count - done);
    words.clear();
    for (std::size_t i = 0; i < n; ++i) words.emplace_back(sums[done + i]);
    encode_extent({blocks.start + done, id(), static_cast<std::uint32_t>(n), words}, record);
    LCFS_TRY(tree_.put({inode, kExtent, offset + done * kBlockSize}, record));
    done += n;
  }
  return {};
}

// A small file's data goes into its leaf.  False: it is not small.
Result<bool> LayerImpl::flush_inline(Inode inode, FileState& f) {
  if (f.attr.size > kInlineMax || f.attr.blocks != 0) return false;
  std::vector<std::byte> bytes;
  std::span<std::byte const> data;
  auto const page = f.pages.find(0);
  if (page != f.pages.end()) {
    data = page->second->bytes.span().first(f.attr.size);
  } else if (f.attr.size != 0) {
    bytes.resize(f.attr.size);
    LCFS_TRY(read_locked(inode, 0, bytes));
    data = bytes;
  }
  while (!data.empty() && data.back() == std::byte{0}) data = data.first(data.size() - 1);
  if (data.empty()) {
    LCFS_TRY(tree_.erase({inode, kInline, 0}));
  } else {
    LCFS_TRY(tree_.put({inode, kInline, 0}, data));
  }
  drop_pages(f, 0, ~0ull);
  return true;
}

// Pages [first, first + pages.size()), all dirty, none of them zero.
Status LayerImpl::flush_run(Inode inode, FileState& f, std::uint64_t first,
                            std::vector<PageRef> pages, IoBatch& batch) {
  std::size_t done = 0;
  while (done < pages.size()) {
    LCFS_TRY_ASSIGN(Extent const blocks, space_.allocate_data(pages.size() - done));
    std::uint64_t const offset = (first + done) * kBlockSize;
    LCFS_TRY_ASSIGN(std::uint64_t const removed,
                    unmap(inode, offset, offset + blocks.count * kBlockSize));
    IoBatch::Piece piece{blocks.start * kBlockSize, inode, {}};
    std::vector<std::uint32_t> sums;
    sums.reserve(blocks.count);
    for (std::uint64_t i = 0; i < blocks.count; ++i) {
      auto& page = pages[done + i];
      sums.push_back(crc32c(page->bytes.span()));
      page->writing = true;
      piece.pages.push_back(page);
    }
    f.dirty_pages -= blocks.count;
    count_dirty(-static_cast<std::int64_t>(blocks.count));
    LCFS_TRY(map_extent(inode, offset, blocks, sums));
    f.attr.blocks = f.attr.blocks - removed + blocks.count;
    batch.pieces.push_back(std::move(piece));
    done += blocks.count;
  }
  return {};
}

Status LayerImpl::flush_file(Inode inode, IoBatch& batch) {
  auto* f = state(inode);
  if (f == nullptr) {
    dirty_files_.erase(inode);
    return {};
  }
  if (!f->attr_dirty) {
    LCFS_TRY_ASSIGN(f->attr, load(inode));
    f->attr_dirty = true;
  }
  Reservation promise = std::move(f->promise);
  f->promise = {};
  f->windows.clear();
  space_.set_payer(&promise);
  space_.set_urgency(Urgency::kEmergency);  // should a promise ever prove too small: this can't be
                                            // refused any more
  auto place = [&]() LCFS_NO_TSA -> Status {
    LCFS_TRY_ASSIGN(bool const small, flush_inline(inode, *f));
    if (small) return {};
    LCFS_TRY_ASSIGN(auto const was_inline, tree_.get({inode, kInline, 0}));
    if (was_inline) {  // it outgrew its leaf
      auto const page =
          f->pages.find(0);  // there since then: who made the file grow promised room for it
      if (page == f->pages.end() || page->second->writing) LCFS_TRY(inline_to_page(inode));
      LCFS_TRY(tree_.erase({inode, kInline, 0}));
    }
    auto it = f->pages.begin();
    while (it != f->pages.end()) {
      if (it->second->writing) {
        ++it;
        continue;
      }
      std::uint64_t const first = it->first;
      std::vector<PageRef> run;
      bool zero = false;
      // A stretch of neighbours that are all zero, or all not.
      for (; it != f->pages.end() && !it->second->writing && it->first == first + run.size();
           ++it) {
        bool const is_zero_page = is_zero(it->second->bytes.span());
        if (run.empty()) zero = is_zero_page;
        if (is_zero_page != zero) break;
        run.push_back(it->second);
      }
      if (!zero) {
        LCFS_TRY(flush_run(inode, *f, first, std::move(run), batch));
        continue;
      }
      std::uint64_t const end = first + run.size();
      LCFS_TRY_ASSIGN(std::uint64_t const removed,
                      unmap(inode, first * kBlockSize, end * kBlockSize));
      f->attr.blocks -= removed;
      drop_pages(*f, first, end);
      it = f->pages.lower_bound(end);
    }
    return {};
  };
  Status ok = place();
  if (ok) ok = tree_.put({inode, kInode, 0}, encode_inode(f->attr));
  space_.set_payer(nullptr);
  space_.set_urgency(Urgency::kOrdinary);
  LCFS_TRY(std::move(ok));
  f->attr_dirty = false;
  f->promise.reset();
  f->windows.clear();
  dirty_files_.erase(inode);
  drop_state_if_idle(inode);
  return {};
}

Status LayerImpl::flush_all(IoBatch& batch) {
  // In inode order: files made one behind the other lie one behind the other.
  std::vector<Inode> files(dirty_files_.begin(), dirty_files_.end());
  std::sort(files.begin(), files.end());
  for (Inode const inode : files) LCFS_TRY(flush_file(inode, batch));
  if (!batch.pieces.empty()) batch.layer = shared_from_this();
  return {};
}

Status LayerImpl::flush_now(std::optional<Inode> inode) {
  IoBatch batch;
  std::uint64_t const ticket = store_.begin_flush();
  Status result = [&]() -> Status {
    WriteLock lock(mu_);
    LCFS_TRY(check_changeable());
    if (!dirty_ && dirty_files_.empty()) return {};
    LCFS_TRY(begin_change(Urgency::kEmergency));  // dirty already, whoever made a file dirty
    std::uint64_t const before = tree_.changes();
    Status placed;
    if (inode) {
      placed = flush_file(*inode, batch);
      batch.layer = shared_from_this();
    } else {
      placed = flush_all(batch);
    }
    LCFS_TRY(end_change(std::move(placed), before));
    return spill_if_large();
  }();
  return write_out(batch, ticket, std::move(result));
}

// The second half of a flush outside checkpoints: what was placed goes to the device, and the
// ticket is given back.
Status LayerImpl::write_out(IoBatch const& batch, std::uint64_t ticket, Status result) {
  if (result && !batch.pieces.empty()) {
    result = store_.write_data(batch);
    if (!result) result = store_.fail(std::move(result).error());
  }
  store_.end_flush(ticket);
  if (result && batch.layer) written(batch);
  return result;
}

void LayerImpl::written(IoBatch const& batch) {
  WriteLock lock(mu_);
  for (auto const& piece : batch.pieces) {
    auto* f = state(piece.inode);
    if (f == nullptr) continue;
    for (auto const& page : piece.pages) {
      auto it = f->pages.find(page->number);
      if (it != f->pages.end() && it->second == page) f->pages.erase(it);
    }
    drop_state_if_idle(piece.inode);
  }
}

}  // namespace lcfs
