// SPDX-License-Identifier: Apache-2.0
// Files whose data is not placed yet: attributes, pages, and what changes them.
#include "engine/layer/dirty_files.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "engine/layer/worst_cases.h"

namespace lcfs {

DirtyFiles::File& DirtyFiles::make(Inode inode) {
  auto& slot = files_[inode];
  if (!slot) slot = std::make_unique<File>();
  return *slot;
}

void DirtyFiles::drop_if_idle(Inode inode) {
  auto const it = files_.find(inode);
  if (it == files_.end()) return;
  if (!it->second->attr_dirty && it->second->pages.empty()) files_.erase(it);
}

void DirtyFiles::erase(Inode inode) {
  auto const it = files_.find(inode);
  if (it == files_.end()) return;
  drop_pages(*it->second, 0, ~0ull);
  dirty_.erase(inode);
  files_.erase(it);
}

void DirtyFiles::clear() {
  files_.clear();
  dirty_.clear();
  count_dirty(-static_cast<std::int64_t>(pages_));
}

void DirtyFiles::count_dirty(std::int64_t pages) {
  pages_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(pages_) + pages);
  all_dirty_.fetch_add(static_cast<std::uint64_t>(pages * static_cast<std::int64_t>(kBlockSize)));
}

void DirtyFiles::note_dirty(Inode inode) {
  if (auto const* f = peek(inode); f != nullptr && f->dirty_pages != 0) dirty_.insert(inode);
}

// Attributes --------------------------------------------------------------------------------------

Status DirtyFiles::put_inode(Inode inode, InodeInfo const& info) {
  if (auto* f = find(inode); f != nullptr) {
    f->attr_dirty = f->dirty_pages != 0;
    if (f->attr_dirty) {
      f->attr = info;
      dirty_.insert(inode);
      return {};
    }
  }
  return tree_.put_inode(inode, info);
}

Attr DirtyFiles::shown(Inode inode, InodeInfo info) const {
  auto const* f = peek(inode);
  if (f == nullptr || f->dirty_pages == 0) return {inode, info};
  if (info.size <= kInlineMax && info.blocks == 0) return {inode, info};  // it will be inline
  info.blocks = std::max(info.blocks,
                         std::min(info.blocks + f->dirty_pages, round_up(info.size) / kBlockSize));
  return {inode, info, false};
}

// Reading -----------------------------------------------------------------------------------------

Status DirtyFiles::plan_read(Tree::Cursor& c, Inode inode, std::uint64_t offset,
                             std::span<std::byte> into, ReadPlan& plan) const {
  std::uint64_t const end = offset + into.size();
  auto const* f = peek(inode);
  for (std::uint64_t at = offset; at < end;) {
    auto part = [&](std::uint64_t from, std::uint64_t to) {
      return into.subspan(from - offset, to - from);
    };
    if (f == nullptr) return plan.add_placed(tree_, c, inode, at, part(at, end));
    auto it = f->pages.lower_bound(at / kBlockSize);
    if (it == f->pages.end() || it->first * kBlockSize >= end)
      return plan.add_placed(tree_, c, inode, at, part(at, end));
    std::uint64_t const page_at = it->first * kBlockSize;
    if (page_at > at) {
      LCFS_TRY(plan.add_placed(tree_, c, inode, at, part(at, page_at)));
      at = page_at;
    }
    std::uint64_t const page_end = std::min(end, page_at + kBlockSize);
    std::memcpy(part(at, page_end).data(), it->second->bytes.data() + (at - page_at),
                page_end - at);
    at = page_end;
  }
  return {};
}

Status DirtyFiles::read_placed(Inode inode, std::uint64_t offset, std::span<std::byte> into) const {
  auto c = tree_.cursor();
  ReadPlan plan;
  LCFS_TRY(plan.add_placed(tree_, c, inode, offset, into));
  return reader_.run({tree_.owner(), inode}, plan, into.data() + into.size());
}

std::optional<std::uint64_t> DirtyFiles::next_page(Inode inode, std::uint64_t number) const {
  auto const* f = peek(inode);
  if (f == nullptr) return std::nullopt;
  auto const it = f->pages.lower_bound(number);
  return it == f->pages.end() ? std::nullopt : std::optional(it->first);
}

Result<std::optional<std::uint64_t>> DirtyFiles::next_data(Inode inode, std::uint64_t offset,
                                                           std::uint64_t* end) const {
  LCFS_TRY_ASSIGN(auto start, tree_.next_mapped(inode, offset, end));
  if (auto const page = next_page(inode, offset / kBlockSize)) {
    std::uint64_t const begin = std::max(offset, *page * kBlockSize);
    if (!start || begin < *start) {
      start = begin;
      *end = (*page + 1) * kBlockSize;
    }
  }
  return start;
}

// Pages -------------------------------------------------------------------------------------------

// Reserves what flushing pages [first, last] may take, for those that have not reserved it yet.
// small: the data will be inline, so no extents will be recorded; outgrow_inline() reserves the
// rest.
Status DirtyFiles::reserve_pages(File& f, std::uint64_t first, std::uint64_t last, bool small) {
  std::uint64_t need = f.dirty_pages == 0 && f.windows.empty() ? kFileBlocks : 0;
  std::vector<std::uint64_t> windows;
  for (std::uint64_t w = first / kWindowPages; w <= last / kWindowPages && !small; ++w) {
    if (!f.windows.contains(w)) windows.push_back(w);
  }
  need += windows.size() * kWindowBlocks;
  std::uint64_t fresh = last - first + 1;
  for (auto it = f.pages.lower_bound(first); it != f.pages.end() && it->first <= last; ++it) {
    if (!it->second->writing) --fresh;
  }
  need += fresh;
  if (need != 0) {
    LCFS_TRY_ASSIGN(Reservation more, reserve(need, Urgency::kOrdinary));
    more.give(f.reserved, need);
  }
  f.windows.insert(windows.begin(), windows.end());
  return {};
}

// A dirty page whose bytes may be changed.  It is whole: unless all of it is about to be written
// (`covered`), what is there is read now, so that the writer is told of damage, and a checkpoint
// never meets it.  size: of the file; zeroes follow.
Result<Page*> DirtyFiles::page_for_write(Inode inode, File& f, std::uint64_t number, bool covered,
                                         std::uint64_t size) {
  auto it = f.pages.find(number);
  if (it != f.pages.end() && !it->second->writing) return it->second.get();
  auto fresh = std::make_shared<Page>();
  fresh->number = number;
  if (it != f.pages.end()) {  // being written: constant until then, so the change goes to a copy
    std::memcpy(fresh->bytes.data(), it->second->bytes.data(), kBlockSize);
    it->second = fresh;
  } else {
    if (!covered && number * kBlockSize < size) {
      LCFS_TRY(read_placed(inode, number * kBlockSize, fresh->bytes.span()));
    } else if (!covered) {
      std::memset(fresh->bytes.data(), 0, kBlockSize);
    }
    it = f.pages.emplace(number, fresh).first;
  }
  ++f.dirty_pages;
  count_dirty(1);
  return it->second.get();
}

void DirtyFiles::drop_pages(File& f, std::uint64_t first, std::uint64_t end) {
  auto it = f.pages.lower_bound(first);
  while (it != f.pages.end() && it->first < end) {
    if (!it->second->writing) {
      --f.dirty_pages;
      count_dirty(-1);
    }
    it = f.pages.erase(it);
  }
}

// Changing ----------------------------------------------------------------------------------------

Status DirtyFiles::write(Inode inode, InodeInfo& info, std::uint64_t offset,
                         std::span<std::byte const> data) {
  std::uint64_t const end = offset + data.size();
  LCFS_TRY(outgrow_inline(inode, info, end));
  auto& f = make(inode);
  bool const small = std::max(info.size, end) <= kInlineMax && info.blocks == 0;
  LCFS_TRY(reserve_pages(f, offset / kBlockSize, (end - 1) / kBlockSize, small));
  dirty_.insert(inode);
  // What can fail comes first: the pages at both ends, if only a part of them is written.
  if (offset % kBlockSize != 0)
    LCFS_TRY(page_for_write(inode, f, offset / kBlockSize, false, info.size));
  if (end % kBlockSize != 0) LCFS_TRY(page_for_write(inode, f, end / kBlockSize, false, info.size));
  for (std::uint64_t at = offset; at < end;) {
    std::uint64_t const number = at / kBlockSize, low = at % kBlockSize;
    std::uint64_t const high = std::min<std::uint64_t>(kBlockSize, low + (end - at));
    LCFS_TRY_ASSIGN(Page * page, page_for_write(inode, f, number, true, info.size));
    std::memcpy(page->bytes.data() + low, data.data() + (at - offset), high - low);
    at += high - low;
  }
  info.size = std::max(info.size, end);
  info.mtime = info.ctime = now_timestamp();
  f.attr = info;
  f.attr_dirty = true;
  return {};
}

// Before a file grows to `size`: data that is inline, or would have been, becomes a page with all
// that it needs reserved, while that can still be refused for lack of room.
Status DirtyFiles::outgrow_inline(Inode inode, InodeInfo const& info, std::uint64_t size) {
  if (info.size == 0 || info.size > kInlineMax || size <= kInlineMax) return {};
  LCFS_TRY(inline_to_page(inode));
  auto* f = find(inode);
  if (f == nullptr || f->dirty_pages == 0) return {};
  dirty_.insert(inode);
  return reserve_pages(*f, 0, 0, false);
}

Status DirtyFiles::inline_to_page(Inode inode) {
  LCFS_TRY_ASSIGN(auto const found, tree_.inline_data(inode));
  if (!found) return {};
  auto& f = make(inode);
  LCFS_TRY(reserve_pages(f, 0, 0, false));
  LCFS_TRY(page_for_write(inode, f, 0, false, ~0ull));
  return {};
}

Status DirtyFiles::truncate(Inode inode, InodeInfo& info, std::uint64_t size) {
  if (size > info.size) {
    LCFS_TRY(outgrow_inline(inode, info, size));
    info.size = size;
    return {};
  }
  if (size == info.size) return {};
  std::uint64_t const keep = round_up(size);
  // The rest of the last block must read as zeroes if the file grows again.
  LCFS_TRY(zero_part(inode, size, std::min(keep, info.size)));
  if (auto* f = find(inode)) drop_pages(*f, keep / kBlockSize, ~0ull);
  LCFS_TRY_ASSIGN(std::uint64_t const removed, tree_.unmap(inode, keep, round_up(kMaxFileSize)));
  info.blocks -= removed;
  if (size == 0) LCFS_TRY(tree_.erase_inline(inode));
  info.size = size;
  note_dirty(inode);
  return {};
}

Status DirtyFiles::punch(Inode inode, InodeInfo& info, std::uint64_t begin, std::uint64_t end) {
  std::uint64_t const stop = std::min(end, round_up(info.size));
  if (begin >= stop) return {};
  std::uint64_t const first = round_up(begin), last = round_down(stop);
  if (first > last) return zero_part(inode, begin, stop);  // inside one block
  LCFS_TRY(zero_part(inode, begin, first));
  LCFS_TRY(zero_part(inode, last, stop));
  if (first == last) return {};
  if (auto* f = find(inode)) drop_pages(*f, first / kBlockSize, last / kBlockSize);
  LCFS_TRY_ASSIGN(std::uint64_t const removed, tree_.unmap(inode, first, last));
  info.blocks -= removed;
  if (first == 0) LCFS_TRY(tree_.erase_inline(inode));
  return {};
}

// [begin, end), inside one block, reads as zeroes; nothing is done where it does already.
Status DirtyFiles::zero_part(Inode inode, std::uint64_t begin, std::uint64_t end) {
  if (begin >= end) return {};
  std::uint64_t data_end = 0;
  LCFS_TRY_ASSIGN(auto const mapped, tree_.next_mapped(inode, round_down(begin), &data_end));
  auto const* f = peek(inode);
  bool const in_memory = f != nullptr && f->pages.contains(begin / kBlockSize);
  if (in_memory || (mapped && *mapped < round_up(end))) return zero_range(inode, begin, end);
  return {};
}

// Zeroes [begin, end) inside one block through its page.
Status DirtyFiles::zero_range(Inode inode, std::uint64_t begin, std::uint64_t end) {
  auto& f = make(inode);
  std::uint64_t const number = begin / kBlockSize;
  LCFS_TRY(reserve_pages(f, number, number, false));
  LCFS_TRY_ASSIGN(Page * page, page_for_write(inode, f, number, false, ~0ull));
  std::memset(page->bytes.data() + (begin - number * kBlockSize), 0, end - begin);
  dirty_.insert(inode);
  return {};
}

Status DirtyFiles::make_way(Inode inode, InodeInfo& info, std::uint64_t begin, std::uint64_t end) {
  if (begin != 0) {
    // Both may be refused for lack of room: before anything has changed.
    LCFS_TRY(outgrow_inline(inode, info, end));
    LCFS_TRY(inline_to_page(inode));
  }
  LCFS_TRY(tree_.erase_inline(inode));
  if (auto* f = find(inode)) drop_pages(*f, begin / kBlockSize, round_up(end) / kBlockSize);
  LCFS_TRY_ASSIGN(std::uint64_t const removed, tree_.unmap(inode, begin, round_up(end)));
  info.blocks -= removed;
  note_dirty(inode);
  return {};
}

// Renumbering -------------------------------------------------------------------------------------

Status DirtyFiles::reserve_move(Inode inode, std::uint64_t from, std::uint64_t to,
                                Urgency urgency) {
  auto* f = find(inode);
  if (f == nullptr || f->dirty_pages == 0) return {};
  std::set<std::uint64_t> windows;
  for (auto it = f->pages.lower_bound(from / kBlockSize); it != f->pages.end(); ++it) {
    if (it->second->writing) continue;
    std::uint64_t const window = (it->first - from / kBlockSize + to / kBlockSize) / kWindowPages;
    if (!f->windows.contains(window)) windows.insert(window);
  }
  LCFS_TRY_ASSIGN(Reservation more, reserve(windows.size() * kWindowBlocks, urgency));
  more.give(f->reserved, more.left());
  f->windows.insert(windows.begin(), windows.end());
  dirty_.insert(inode);
  return {};
}

void DirtyFiles::move_pages(Inode inode, std::uint64_t from, std::uint64_t to) {
  auto* f = find(inode);
  if (f == nullptr) return;
  std::map<std::uint64_t, PageRef> behind;
  for (auto it = f->pages.lower_bound(from / kBlockSize); it != f->pages.end();) {
    auto node = f->pages.extract(it++);
    node.key() = (node.key() * kBlockSize - from + to) / kBlockSize;
    node.mapped()->number = node.key();
    behind.insert(behind.end(), std::move(node));
  }
  f->pages.merge(behind);
}

}  // namespace lcfs
