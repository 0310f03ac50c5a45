// SPDX-License-Identifier: Apache-2.0
// Files whose data is not placed yet: giving dirty pages their place.  Space is assigned when the
// data is complete, one run a stretch; blocks of zeroes become holes; small files go into the tree
// itself.
#include <algorithm>

#include "base/zero.h"
#include "engine/layer/dirty_files.h"
#include "format/hash.h"

namespace lcfs {

// A small file's data goes into its leaf.  False: it is not small.
Result<bool> DirtyFiles::flush_inline(Inode inode, File& f) {
  if (f.attr.size > kInlineMax || f.attr.blocks != 0) return false;
  std::vector<std::byte> bytes;
  std::span<std::byte const> data;
  auto const page = f.pages.find(0);
  if (page != f.pages.end()) {
    data = page->second->bytes.span().first(f.attr.size);
  } else if (f.attr.size != 0) {
    bytes.resize(f.attr.size);
    LCFS_TRY(read_placed(inode, 0, bytes));
    data = bytes;
  }
  while (!data.empty() && data.back() == std::byte{0}) data = data.first(data.size() - 1);
  if (data.empty()) {
    LCFS_TRY(tree_.erase_inline(inode));
  } else {
    LCFS_TRY(tree_.put_inline(inode, data));
  }
  drop_pages(f, 0, ~0ull);
  return true;
}

// Pages [first, first + pages.size()), all dirty, none of them zero.
Status DirtyFiles::flush_run(Inode inode, File& f, std::uint64_t first, std::vector<PageRef> pages,
                             IoBatch& batch) {
  std::size_t done = 0;
  while (done < pages.size()) {
    LCFS_TRY_ASSIGN(Extent const blocks, tree_.allocate_data(pages.size() - done));
    std::uint64_t const offset = (first + done) * kBlockSize;
    LCFS_TRY_ASSIGN(std::uint64_t const removed,
                    tree_.unmap(inode, offset, offset + blocks.count * kBlockSize));
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
    LCFS_TRY(tree_.map(inode, offset, blocks, sums));
    f.attr.blocks = f.attr.blocks - removed + blocks.count;
    batch.pieces.push_back(std::move(piece));
    done += blocks.count;
  }
  return {};
}

// All dirty pages, in order: stretches of neighbours that are all zero, or all not.
Status DirtyFiles::flush_pages(Inode inode, File& f, IoBatch& batch) {
  auto it = f.pages.begin();
  while (it != f.pages.end()) {
    if (it->second->writing) {
      ++it;
      continue;
    }
    std::uint64_t const first = it->first;
    std::vector<PageRef> run;
    bool zero = false;
    for (; it != f.pages.end() && !it->second->writing && it->first == first + run.size(); ++it) {
      bool const is_zero_page = is_zero(it->second->bytes.span());
      if (run.empty()) zero = is_zero_page;
      if (is_zero_page != zero) break;
      run.push_back(it->second);
    }
    if (!zero) {
      LCFS_TRY(flush_run(inode, f, first, std::move(run), batch));
      continue;
    }
    std::uint64_t const end = first + run.size();
    LCFS_TRY_ASSIGN(std::uint64_t const removed,
                    tree_.unmap(inode, first * kBlockSize, end * kBlockSize));
    f.attr.blocks -= removed;
    drop_pages(f, first, end);
    it = f.pages.lower_bound(end);
  }
  return {};
}

Status DirtyFiles::flush(Inode inode, IoBatch& batch) {
  auto* const f = find(inode);
  if (f == nullptr) {
    dirty_.erase(inode);
    return {};
  }
  if (!f->attr_dirty) {
    LCFS_TRY_ASSIGN(f->attr, tree_.get_inode(inode));
    f->attr_dirty = true;
  }
  Reservation pays = std::move(f->reserved);
  f->reserved = {};
  f->windows.clear();
  tree_.set_payer(&pays);
  tree_.set_urgency(Urgency::kEmergency);
  auto place = [&]() -> Status {
    LCFS_TRY_ASSIGN(bool const small, flush_inline(inode, *f));
    if (small) return {};
    LCFS_TRY_ASSIGN(auto const was_inline, tree_.inline_data(inode));
    if (was_inline) {  // it outgrew its leaf
      // The page is there since then: who made the file grow reserved room for it.
      auto const page = f->pages.find(0);
      if (page == f->pages.end() || page->second->writing) LCFS_TRY(inline_to_page(inode));
      LCFS_TRY(tree_.erase_inline(inode));
    }
    return flush_pages(inode, *f, batch);
  };
  Status ok = place();
  if (ok) ok = tree_.put_inode(inode, f->attr);
  tree_.set_payer(nullptr);
  tree_.set_urgency(Urgency::kOrdinary);
  LCFS_TRY(std::move(ok));
  f->attr_dirty = false;
  f->reserved.reset();
  f->windows.clear();
  dirty_.erase(inode);
  drop_if_idle(inode);
  return {};
}

Status DirtyFiles::flush_all(IoBatch& batch) {
  // In inode order: files made one behind the other lie one behind the other.
  std::vector<Inode> files(dirty_.begin(), dirty_.end());
  std::sort(files.begin(), files.end());
  for (Inode const inode : files) LCFS_TRY(flush(inode, batch));
  return {};
}

void DirtyFiles::written(IoBatch const& batch) {
  for (auto const& piece : batch.pieces) {
    auto* const f = find(piece.inode);
    if (f == nullptr) continue;
    for (auto const& page : piece.pages) {
      auto const it = f->pages.find(page->number);
      if (it != f->pages.end() && it->second == page) f->pages.erase(it);
    }
    drop_if_idle(piece.inode);
  }
}

}  // namespace lcfs
