// SPDX-License-Identifier: Apache-2.0
// Layers: reading and changing file data.  Placing it is layer_flush.cc's.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/layer_change.h"
#include "format/hash.h"

namespace lcfs {

namespace {

constexpr std::uint64_t round_down(std::uint64_t v) { return v & ~std::uint64_t{kBlockSize - 1}; }
constexpr std::uint64_t round_up(std::uint64_t v) { return round_down(v + kBlockSize - 1); }
constexpr std::uint64_t kWindowPages = 64;
// Metadata of one window of dirty pages, worst case: its extents in two leaves, copied and split, and the branches above.
constexpr std::uint64_t kWindowBlocks = 40;
constexpr std::uint64_t kFileBlocks = 48;  // inode, inline data and their paths

}  // namespace

// ---------------------------------------------------------------------------------------------------------------
// Reading

Status LayerImpl::read_extent(Inode inode, ExtentInfo const& extent, std::uint64_t extent_offset, std::uint64_t offset,
                              std::span<std::byte> into) const {
  // `into` lies inside the extent; whole blocks are read, because checksums are of whole blocks.
  std::uint64_t const first = (offset - extent_offset) / kBlockSize;
  std::uint64_t const last = (offset + into.size() - 1 - extent_offset) / kBlockSize;
  std::uint64_t const bytes = (last - first + 1) * kBlockSize;
  bool const direct = offset % kBlockSize == 0 && into.size() == bytes &&
                      reinterpret_cast<std::uintptr_t>(into.data()) % kBlockSize == 0;
  AlignedBuffer bounce;
  std::span<std::byte> blocks = into;
  if (!direct) {
    bounce = AlignedBuffer(bytes);
    blocks = bounce.span();
  }
  LCFS_TRY(store_.device.read((extent.block + first) * kBlockSize, blocks));
  if (store_.options.verify_data) {
    for (std::uint64_t i = first; i <= last; ++i) {
      if (crc32c(blocks.subspan((i - first) * kBlockSize, kBlockSize)) != extent.checksums[i].get()) {  // I6
        return Error{Errc::kCorrupt,
                     fmt::format("data checksum of layer {}, inode {}, file offset {} does not match", id_, inode,
                                 extent_offset + i * kBlockSize),
                     EIO, store_.device.name(), (extent.block + i) * kBlockSize};
      }
    }
  }
  if (!direct) std::memcpy(into.data(), blocks.data() + (offset - extent_offset - first * kBlockSize), into.size());
  return {};
}

// What the tree has, without the pages in memory; gaps are zeroes.
Status LayerImpl::read_base(Inode inode, std::uint64_t offset, std::span<std::byte> into) const {
  std::uint64_t const end = offset + into.size();
  Tree::Cursor c(tree_);
  LCFS_TRY(c.seek({inode, kInline, 0}));
  if (c.valid() && c.key() == Key{inode, kInline, 0}) {
    std::memset(into.data(), 0, into.size());
    auto const value = c.value();
    if (offset < value.size()) std::memcpy(into.data(), value.data() + offset, std::min<std::size_t>(into.size(), value.size() - offset));
    return {};
  }
  if (offset != 0) {
    LCFS_TRY(c.seek_floor({inode, kExtent, offset}));
    if (!c.valid() || c.key().inode != inode || c.key().kind != kExtent) LCFS_TRY(c.seek({inode, kExtent, offset}));
  }
  std::uint64_t done = offset;  // everything below is filled in
  while (c.valid() && c.key().inode == inode && c.key().kind == kExtent && c.key().offset < end && done < end) {
    std::uint64_t const at = c.key().offset;
    LCFS_TRY_ASSIGN(auto const extent, parse_extent(c.key(), c.value(), store_.space.total()));
    std::uint64_t const stop = at + std::uint64_t{extent.count} * kBlockSize;
    if (stop > done) {
      std::uint64_t const low = std::max(at, done), high = std::min(stop, end);
      if (low > done) std::memset(into.data() + (done - offset), 0, low - done);
      LCFS_TRY(read_extent(inode, extent, at, low, into.subspan(low - offset, high - low)));
      done = high;
    }
    LCFS_TRY(c.next());
  }
  if (done < end) std::memset(into.data() + (done - offset), 0, end - done);
  return {};
}

Status LayerImpl::read_locked(Inode inode, std::uint64_t offset, std::span<std::byte> into) const {
  std::uint64_t const end = offset + into.size();
  auto const* f = peek(inode);
  for (std::uint64_t at = offset; at < end;) {
    auto part = [&](std::uint64_t from, std::uint64_t to) { return into.subspan(from - offset, to - from); };
    if (f == nullptr) return read_base(inode, at, part(at, end));
    auto it = f->pages.lower_bound(at / kBlockSize);
    if (it == f->pages.end() || it->first * kBlockSize >= end) return read_base(inode, at, part(at, end));
    std::uint64_t const page_at = it->first * kBlockSize;
    if (page_at > at) {
      LCFS_TRY(read_base(inode, at, part(at, page_at)));
      at = page_at;
    }
    std::uint64_t const page_end = std::min(end, page_at + kBlockSize);
    Page const& page = *it->second;
    if (!page.whole()) LCFS_TRY(read_base(inode, at, part(at, page_end)));
    std::uint64_t const low = std::max(at, page_at + page.low), high = std::min(page_end, page_at + page.high);
    if (low < high) std::memcpy(part(low, high).data(), page.bytes.data() + (low - page_at), high - low);
    at = page_end;
  }
  return {};
}

Result<std::size_t> LayerImpl::read(Inode inode, std::uint64_t offset, std::span<std::byte> into) {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  if (S_ISDIR(info.mode)) return fs_error(EISDIR);
  if (!S_ISREG(info.mode)) return fs_error(EINVAL);
  if (offset >= info.size || into.empty()) return std::size_t{0};
  auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), info.size - offset));
  LCFS_TRY(read_locked(inode, offset, into.first(n)));
  return n;
}

// Where mapped data at or behind `offset` begins; *end: where that stretch ends.
Result<std::optional<std::uint64_t>> LayerImpl::next_extent(Inode inode, std::uint64_t offset, std::uint64_t* end) const {
  Tree::Cursor c(tree_);
  LCFS_TRY(c.seek({inode, kInline, 0}));
  if (c.valid() && c.key() == Key{inode, kInline, 0}) {
    *end = kBlockSize;
    return offset < kBlockSize ? std::optional(offset) : std::nullopt;
  }
  LCFS_TRY(c.seek_floor({inode, kExtent, offset}));
  if (!c.valid() || c.key().inode != inode || c.key().kind != kExtent) LCFS_TRY(c.seek({inode, kExtent, offset}));
  while (c.valid() && c.key().inode == inode && c.key().kind == kExtent) {
    LCFS_TRY_ASSIGN(auto const extent, parse_extent(c.key(), c.value(), store_.space.total()));
    *end = c.key().offset + std::uint64_t{extent.count} * kBlockSize;
    if (*end > offset) return std::optional(std::max(offset, c.key().offset));
    LCFS_TRY(c.next());
  }
  return std::optional<std::uint64_t>{};
}

Result<std::uint64_t> LayerImpl::seek(Inode inode, std::uint64_t offset, Whence whence) {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  if (!S_ISREG(info.mode)) return fs_error(EINVAL);
  if (offset >= info.size) return fs_error(ENXIO);
  FileState const* const f = peek(inode);
  // The next stretch of data from `at` on: in memory or mapped, whichever comes first.
  auto data_from = [&](std::uint64_t at, std::uint64_t* end) LCFS_NO_TSA -> Result<std::optional<std::uint64_t>> {
    LCFS_TRY_ASSIGN(auto start, next_extent(inode, at, end));
    if (f != nullptr) {
      auto it = f->pages.lower_bound(at / kBlockSize);
      if (it != f->pages.end()) {
        std::uint64_t const begin = std::max(at, it->first * kBlockSize);
        if (!start || begin < *start) {
          start = begin;
          *end = (it->first + 1) * kBlockSize;
        }
      }
    }
    return start;
  };
  std::uint64_t end = 0;
  if (whence == Whence::kData) {
    LCFS_TRY_ASSIGN(auto const start, data_from(offset, &end));
    if (!start || *start >= info.size) return fs_error(ENXIO);
    return *start;
  }
  for (std::uint64_t at = offset; at < info.size; at = end) {
    LCFS_TRY_ASSIGN(auto const start, data_from(at, &end));
    if (!start || *start > at) return at;
  }
  return info.size;
}

Result<std::vector<Layer::Run>> LayerImpl::runs(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY(load(inode));
  std::vector<Run> out;
  LCFS_TRY(scan(tree_, {inode, kExtent, 0}, {inode, kExtent, ~0ull}, [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const e, parse_extent(key, value, store_.space.total()));
    Run const run{key.offset, e.block * kBlockSize, std::uint64_t{e.count} * kBlockSize, e.owner};
    if (!out.empty() && out.back().owner == run.owner && out.back().file_offset + out.back().length == run.file_offset &&
        out.back().device_offset + out.back().length == run.device_offset) {
      out.back().length += run.length;
    } else {
      out.push_back(run);
    }
    return true;
  }));
  return out;
}

// ---------------------------------------------------------------------------------------------------------------
// Pages

void LayerImpl::count_dirty(std::int64_t pages) {
  dirty_pages_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(dirty_pages_) + pages);
  store_.dirty_bytes.fetch_add(static_cast<std::uint64_t>(pages * static_cast<std::int64_t>(kBlockSize)));
}

// Promises what flushing pages [first, last] may take, for those not yet promised.
Result<std::uint64_t> LayerImpl::promise_pages(FileState& f, std::uint64_t first, std::uint64_t last) {
  std::uint64_t need = f.dirty_pages == 0 && f.windows.empty() ? kFileBlocks : 0;
  std::vector<std::uint64_t> windows;
  for (std::uint64_t w = first / kWindowPages; w <= last / kWindowPages; ++w) {
    if (!f.windows.contains(w)) windows.push_back(w);
  }
  need += windows.size() * kWindowBlocks;
  std::uint64_t fresh = last - first + 1;
  for (auto it = f.pages.lower_bound(first); it != f.pages.end() && it->first <= last; ++it) {
    if (!it->second->writing) --fresh;
  }
  need += fresh;
  if (need != 0) {
    LCFS_TRY_ASSIGN(Reservation more, Reservation::make(store_.space, need, Urgency::kOrdinary));
    more.give(f.promise, need);
  }
  f.windows.insert(windows.begin(), windows.end());
  return need;
}

Status LayerImpl::fill_page(Inode inode, std::uint64_t number, Page& page) const {
  if (page.whole()) return {};
  AlignedBuffer base(kBlockSize);
  LCFS_TRY(read_base(inode, number * kBlockSize, base.span()));
  std::memcpy(page.bytes.data(), base.data(), page.low);
  std::memcpy(page.bytes.data() + page.high, base.data() + page.high, kBlockSize - page.high);
  page.low = 0;
  page.high = kBlockSize;
  return {};
}

// A page whose bytes may be changed, and of which [low, high) is about to be written.
Result<Page*> LayerImpl::page_for_write(Inode inode, FileState& f, std::uint64_t number, std::uint32_t low, std::uint32_t high) {
  auto it = f.pages.find(number);
  if (it == f.pages.end() || it->second->writing) {
    auto fresh = std::make_shared<Page>();
    if (it != f.pages.end()) {  // being written: constant until then, so the change goes to a copy
      std::memcpy(fresh->bytes.data(), it->second->bytes.data(), kBlockSize);
      fresh->high = kBlockSize;
      it->second = fresh;
    } else {
      it = f.pages.emplace(number, fresh).first;
    }
    ++f.dirty_pages;
    count_dirty(1);
  }
  Page& page = *it->second;
  if (page.low == page.high) {
    page.low = low;
    page.high = high;
  } else if (high < page.low || low > page.high) {
    LCFS_TRY(fill_page(inode, number, page));
  } else {
    page.low = std::min(page.low, low);
    page.high = std::max(page.high, high);
  }
  return &page;
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
  auto& f = make_state(inode);
  LCFS_TRY(promise_pages(f, offset / kBlockSize, (end - 1) / kBlockSize));
  for (std::uint64_t at = offset; at < end;) {
    std::uint64_t const number = at / kBlockSize;
    auto const low = static_cast<std::uint32_t>(at % kBlockSize);
    auto const high = static_cast<std::uint32_t>(std::min<std::uint64_t>(kBlockSize, low + (end - at)));
    LCFS_TRY_ASSIGN(Page * page, page_for_write(inode, f, number, low, high));
    std::memcpy(page->bytes.data() + low, data.data() + (at - offset), high - low);
    at += high - low;
  }
  info.size = std::max(info.size, end);
  info.mtime = info.ctime = now_timestamp();
  f.attr = info;
  f.attr_dirty = true;
  dirty_files_.insert(inode);
  return {};
}

Result<std::size_t> LayerImpl::write(Inode inode, std::uint64_t offset, std::span<std::byte const> data) {
  // Bounded pieces: a piece's promise and its dirty pages stay within what one flush takes.
  constexpr std::size_t kPiece = 4u << 20;
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

// Inline data becomes a dirty page, because the file outgrows it.
Status LayerImpl::inline_to_page(Inode inode) {
  LCFS_TRY_ASSIGN(auto const found, tree_.get({inode, kInline, 0}));
  if (!found) return {};
  auto& f = make_state(inode);
  LCFS_TRY(promise_pages(f, 0, 0));
  LCFS_TRY_ASSIGN(Page * page, page_for_write(inode, f, 0, 0, 0));
  LCFS_TRY(fill_page(inode, 0, *page));
  return {};
}

// Sets info.size; the caller stores info.
Status LayerImpl::do_truncate(Inode inode, InodeInfo& info, std::uint64_t size) {
  if (size > info.size) {
    if (size > kInlineMax) {
      LCFS_TRY(inline_to_page(inode));
      if (auto* f = state(inode); f != nullptr && f->dirty_pages != 0) dirty_files_.insert(inode);
    }
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
  LCFS_TRY_ASSIGN(std::uint64_t const removed, unmap(inode, keep, round_up(kMaxFileSize) ));
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
  LCFS_TRY(promise_pages(f, number, number));
  auto const low = static_cast<std::uint32_t>(begin - number * kBlockSize);
  auto const high = static_cast<std::uint32_t>(end - number * kBlockSize);
  LCFS_TRY_ASSIGN(Page * page, page_for_write(inode, f, number, low, high));
  LCFS_TRY(fill_page(inode, number, *page));
  std::memset(page->bytes.data() + low, 0, high - low);
  dirty_files_.insert(inode);
  return {};
}

Status LayerImpl::allocate(Inode inode, Allocate how, std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return fs_error(EINVAL);
  if (offset > kMaxFileSize || length > kMaxFileSize - offset) return fs_error(EFBIG);
  bool const removes = how == Allocate::kPunchHole;
  return change(kOperationBlocks, removes ? Urgency::kEmergency : Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Status {
    LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
    if (!S_ISREG(info.mode)) return fs_error(ENODEV);
    std::uint64_t const end = offset + length;
    bool const extends = how == Allocate::kExtend || how == Allocate::kZeroRange;
    if (how == Allocate::kExtend || how == Allocate::kKeepSize) {
      // Holes stay holes, there are no unwritten extents; what can be promised is that the room is there now.
      LCFS_TRY_ASSIGN(Reservation const room,
                      Reservation::make(store_.space, length / kBlockSize + 1, Urgency::kOrdinary));
    } else {
      std::uint64_t const stop = std::min(end, round_up(info.size));
      auto zero_part = [&](std::uint64_t from, std::uint64_t to) LCFS_NO_TSA -> Status {
        if (from >= to) return {};
        std::uint64_t data_end = 0;
        LCFS_TRY_ASSIGN(auto const mapped, next_extent(inode, round_down(from), &data_end));
        auto const* f = state(inode);
        bool const in_memory = f != nullptr && f->pages.contains(from / kBlockSize);
        if (in_memory || (mapped && *mapped < round_up(to))) return zero_range(inode, from, to);
        return {};
      };
      std::uint64_t const first = round_up(offset), last = round_down(stop);
      if (offset < stop) {
        if (first > last) {
          LCFS_TRY(zero_part(offset, stop));  // inside one block
        } else {
          LCFS_TRY(zero_part(offset, first));
          LCFS_TRY(zero_part(last, stop));
          if (first < last) {
            if (auto* f = state(inode)) drop_pages(*f, first / kBlockSize, last / kBlockSize);
            LCFS_TRY_ASSIGN(std::uint64_t const removed, unmap(inode, first, last));
            info.blocks -= removed;
            if (first == 0) LCFS_TRY(tree_.erase({inode, kInline, 0}));
          }
        }
      }
    }
    if (extends && end > info.size) LCFS_TRY(do_truncate(inode, info, end));
    info.ctime = now_timestamp();
    if (how != Allocate::kExtend && how != Allocate::kKeepSize) info.mtime = info.ctime;
    return store(inode, info);
  });
}

}  // namespace lcfs
