// SPDX-License-Identifier: Apache-2.0
// Layers: changing file data.  Reading it is layer_read.cc's, placing it layer_flush.cc's.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/layer_change.h"
#include "engine/layer_pages.h"

namespace lcfs {

// ---------------------------------------------------------------------------------------------------------------
// Pages

void LayerImpl::count_dirty(std::int64_t pages) {
  dirty_pages_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(dirty_pages_) + pages);
  store_.dirty_bytes.fetch_add(
      static_cast<std::uint64_t>(pages * static_cast<std::int64_t>(kBlockSize)));
}

// Promises what flushing pages [first, last] may take, for those not yet promised.
// small: it will stand in the leaf, so there are no extents to be recorded; outgrow_inline() makes
// up for it.
Status LayerImpl::promise_pages(FileState& f, std::uint64_t first, std::uint64_t last, bool small) {
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
    LCFS_TRY_ASSIGN(Reservation more, promise(need, Urgency::kOrdinary));
    more.give(f.promise, need);
  }
  f.windows.insert(windows.begin(), windows.end());
  return {};
}

// A dirty page whose bytes may be changed.  It is whole: unless all of it is about to be written
// (`covered`), what is there is read now, so that damage is told to whoever writes, and a
// checkpoint never meets it.  size: of the file; behind it are zeroes.
Result<Page*> LayerImpl::page_for_write(Inode inode, FileState& f, std::uint64_t number,
                                        bool covered, std::uint64_t size) {
  auto it = f.pages.find(number);
  if (it != f.pages.end() && !it->second->writing) return it->second.get();
  auto fresh = std::make_shared<Page>();
  fresh->number = number;
  if (it != f.pages.end()) {  // being written: constant until then, so the change goes to a copy
    std::memcpy(fresh->bytes.data(), it->second->bytes.data(), kBlockSize);
    it->second = fresh;
  } else {
    if (!covered && number * kBlockSize < size) {
      LCFS_TRY(read_base(inode, number * kBlockSize, fresh->bytes.span()));
    } else if (!covered) {
      std::memset(fresh->bytes.data(), 0, kBlockSize);
    }
    it = f.pages.emplace(number, fresh).first;
  }
  ++f.dirty_pages;
  count_dirty(1);
  return it->second.get();
}

void LayerImpl::drop_pages(FileState& f, std::uint64_t first, std::uint64_t end) {
  auto it = f.pages.lower_bound(first);
  while (it != f.pages.end() && it->first < end) {
    if (!it->second->writing) {
      --f.dirty_pages;
      count_dirty(-1);
    }
    it = f.pages.erase(it);
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Changing

Status LayerImpl::do_write(Inode inode, std::uint64_t offset, std::span<std::byte const> data) {
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  if (S_ISDIR(info.mode)) return fs_error(EISDIR);
  if (!S_ISREG(info.mode)) return fs_error(EINVAL);
  if (data.empty()) return {};
  if (offset > kMaxFileSize || data.size() > kMaxFileSize - offset) return fs_error(EFBIG);
  std::uint64_t const end = offset + data.size();
  LCFS_TRY(outgrow_inline(inode, info, end));
  auto& f = make_state(inode);
  bool const small = std::max(info.size, end) <= kInlineMax && info.blocks == 0;
  LCFS_TRY(promise_pages(f, offset / kBlockSize, (end - 1) / kBlockSize, small));
  dirty_files_.insert(inode);
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

Result<std::size_t> LayerImpl::write(Inode inode, std::uint64_t offset,
                                     std::span<std::byte const> data) {
  // Bounded pieces: a piece's promise and its dirty pages stay within what one flush takes.
  constexpr std::size_t kPiece = 4u << 20;
  writes_.fetch_add(1, std::memory_order_relaxed);
  std::size_t done = 0;
  do {
    auto const part = data.subspan(done, std::min(kPiece, data.size() - done));
    bool file_full = false;
    auto ok = change(0, Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Status {
      LCFS_TRY(do_write(inode, offset + done, part));
      auto const* f = state(inode);
      file_full = f != nullptr && f->dirty_pages * kBlockSize > store_.options.dirty_data_file;
      return {};
    });
    if (!ok) {
      if (done != 0 && ok.error().code == Errc::kNoSpace) return done;
      return std::move(ok).error();
    }
    done += part.size();
    written_bytes_.fetch_add(part.size(), std::memory_order_relaxed);
    if (file_full) LCFS_TRY(flush_now(inode));
    if (store_.dirty_bytes.load() > store_.options.dirty_data) {
      // Mostly ours, or spread over many layers that nobody flushes?
      bool ours = false;
      {
        ReadLock lock(mu_);
        ours = dirty_pages_ * kBlockSize > store_.options.dirty_data / 8;
      }
      LCFS_TRY(ours ? flush_now(std::nullopt) : store_.checkpoint(false));
    }
  } while (done < data.size());
  return done;
}

// Before a file grows to `size`: what stood in its leaf, or would have, becomes a page with all its
// promises, while that can still be refused for want of room.
Status LayerImpl::outgrow_inline(Inode inode, InodeInfo const& info, std::uint64_t size) {
  if (info.size == 0 || info.size > kInlineMax || size <= kInlineMax) return {};
  LCFS_TRY(inline_to_page(inode));
  auto* f = state(inode);
  if (f == nullptr || f->dirty_pages == 0) return {};
  dirty_files_.insert(inode);
  return promise_pages(*f, 0, 0, false);
}

// Inline data becomes a dirty page.
Status LayerImpl::inline_to_page(Inode inode) {
  LCFS_TRY_ASSIGN(auto const found, tree_.get({inode, kInline, 0}));
  if (!found) return {};
  auto& f = make_state(inode);
  LCFS_TRY(promise_pages(f, 0, 0, false));
  LCFS_TRY(page_for_write(inode, f, 0, false, ~0ull));
  return {};
}

// Sets info.size; the caller stores info.
Status LayerImpl::do_truncate(Inode inode, InodeInfo& info, std::uint64_t size) {
  if (size > info.size) {
    LCFS_TRY(outgrow_inline(inode, info, size));
    info.size = size;
    return {};
  }
  if (size == info.size) return {};
  std::uint64_t const keep = round_up(size);
  if (size % kBlockSize != 0) {
    // The rest of the last block must read as zeroes if the file grows again.
    std::uint64_t end = 0;
    LCFS_TRY_ASSIGN(auto const mapped, next_extent(inode, round_down(size), &end));
    auto const* f = state(inode);
    if ((mapped && *mapped < keep) || (f != nullptr && f->pages.contains(size / kBlockSize))) {
      LCFS_TRY(zero_range(inode, size, std::min(keep, info.size)));
    }
  }
  if (auto* f = state(inode)) drop_pages(*f, keep / kBlockSize, ~0ull);
  LCFS_TRY_ASSIGN(std::uint64_t const removed, unmap(inode, keep, round_up(kMaxFileSize)));
  info.blocks -= removed;
  if (size == 0) LCFS_TRY(tree_.erase({inode, kInline, 0}));
  info.size = size;
  if (auto* f = state(inode); f != nullptr && f->dirty_pages != 0) dirty_files_.insert(inode);
  return {};
}

// Zeroes [begin, end) inside one block through its page.
Status LayerImpl::zero_range(Inode inode, std::uint64_t begin, std::uint64_t end) {
  auto& f = make_state(inode);
  std::uint64_t const number = begin / kBlockSize;
  LCFS_TRY(promise_pages(f, number, number, false));
  LCFS_TRY_ASSIGN(Page * page, page_for_write(inode, f, number, false, ~0ull));
  std::memset(page->bytes.data() + (begin - number * kBlockSize), 0, end - begin);
  dirty_files_.insert(inode);
  return {};
}

}  // namespace lcfs
