// SPDX-License-Identifier: Apache-2.0
// Layers: copy_file_range(2).
//
// There are no reference counts (I3): a layer frees a block that it owns as soon as one mapping of
// it goes, so its own blocks are mapped once.  Inherited blocks it never frees: any number of its
// files may map them.  So inherited extents are shared, holes stay holes, and the rest is copied
// through memory.  The source is read under its layer's lock, then the target is changed under its
// own: what was inherited then is inherited still, whatever became of the source.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "engine/layer/layer_change.h"
#include "engine/layer/layer_pages.h"

namespace lcfs {

namespace {

constexpr std::uint64_t kCopyBytes = 1u << 20;  // through memory at a time
// Records mapped at a time: bounds the lock, the reservation and the memory.
constexpr std::size_t kShareExtents = 64;
constexpr std::uint64_t kShareBlocks = 384;  // worst case of that many puts side by side
constexpr std::size_t kAncestors = 64;       // of the target that are looked for

}  // namespace

// The next bytes of a file that can be copied in one way: from `at` on, at most to `end`.
// shift: target offset - source offset.  ancestors: of the target, sorted.
Result<LayerImpl::Stretch> LayerImpl::next_stretch(Inode inode, std::uint64_t at, std::uint64_t end,
                                                   std::uint64_t shift,
                                                   std::vector<LayerId> const& ancestors,
                                                   LayerId target) const {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  Stretch out;
  end = std::min(end, info.size);
  if (at >= end) return out;
  out.file_ends = end == info.size;
  bool const congruent = shift % kBlockSize == 0;
  auto may_share = [&](LayerId owner) {
    return owner != target && std::binary_search(ancestors.begin(), ancestors.end(), owner);
  };
  auto c = tree_.cursor();
  LCFS_TRY(c.seek({inode, kInline, 0}));
  bool const is_inline = c.valid() && c.key() == Key{inode, kInline, 0};
  if (!is_inline) LCFS_TRY(tree_.seek_extent(c, inode, at));
  std::uint64_t const begin = at;
  while (at < end) {
    Way way = Way::kHole;
    std::uint64_t stop = end;
    ExtentInfo extent;
    std::uint64_t extent_at = 0;
    if (auto const page = files_.next_page(inode, at / kBlockSize)) {
      std::uint64_t const page_at = *page * kBlockSize;
      stop = std::min(stop, page_at <= at ? page_at + kBlockSize : page_at);
      if (page_at <= at) way = Way::kCopy;
    }
    if (way == Way::kHole && is_inline) {
      if (at < kBlockSize) way = Way::kCopy;
      if (at < kBlockSize) stop = std::min<std::uint64_t>(stop, kBlockSize);
    } else if (way == Way::kHole) {
      while (LayerTree::on_extent(c, inode)) {
        extent_at = c.key().offset;
        LCFS_TRY_ASSIGN(extent, tree_.extent_at(c));
        if (extent_at + std::uint64_t{extent.count} * kBlockSize > at) break;
        extent = {};
        LCFS_TRY(c.next());
      }
      if (extent.count != 0 && extent_at > at) {
        stop = std::min(stop, extent_at);
      } else if (extent.count != 0) {
        stop = std::min(stop, extent_at + std::uint64_t{extent.count} * kBlockSize);
        bool const shared = congruent && may_share(extent.owner);
        way = shared ? Way::kShare : Way::kCopy;
        if (shared && at % kBlockSize != 0) {
          way = Way::kCopy;
          stop = std::min(stop, round_up(at));
        } else if (shared && stop % kBlockSize != 0 && stop != info.size) {
          // The rest of the block is zeroes only at the end of the file.
          if (round_down(stop) > at)
            stop = round_down(stop);
          else
            way = Way::kCopy;
        }
      }
    }
    if (at != begin && way != out.way) break;
    out.way = way;
    if (way == Way::kCopy && stop - begin >= kCopyBytes) {
      out.length = kCopyBytes;
      return out;
    }
    if (way == Way::kShare) {
      auto const skip = static_cast<std::uint32_t>((at - extent_at) / kBlockSize);
      auto const count = static_cast<std::uint32_t>((round_up(stop) - at) / kBlockSize);
      auto const sums = extent.checksums.subspan(skip, count);
      out.extents.push_back({at, extent.block + skip, extent.owner, {sums.begin(), sums.end()}});
    }
    out.length = stop - begin;
    at = stop;
    if (out.extents.size() == kShareExtents) break;
  }
  return out;
}

// Maps a stretch's extents; returns how many bytes of it, which may be none.
Result<std::uint64_t> LayerImpl::map_shared(Inode inode, std::uint64_t to, std::uint64_t shift,
                                            Stretch const& stretch) {
  return change(kShareBlocks, Urgency::kOrdinary,
                [&]() LCFS_REQUIRES(mu_) { return do_map_shared(inode, to, shift, stretch); });
}

Result<std::uint64_t> LayerImpl::do_map_shared(Inode inode, std::uint64_t to, std::uint64_t shift,
                                               Stretch const& stretch) {
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  if (!S_ISREG(info.mode)) return fs_error(EINVAL);
  std::uint64_t end = to + stretch.length;
  // The last block of the source goes as a whole only if it becomes the last one here.
  if (end % kBlockSize != 0 && (info.size > end || !stretch.file_ends)) end = round_down(end);
  if (end <= to) return std::uint64_t{0};
  LCFS_TRY(files_.make_way(inode, info, to, end));
  for (auto const& e : stretch.extents) {
    std::uint64_t const at = e.file_offset + shift;
    if (at >= end) break;
    auto const count = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(e.checksums.size(), (round_up(end) - at) / kBlockSize));
    LCFS_TRY(tree_.map_inherited(inode, at,
                                 {e.block, e.owner, count, std::span(e.checksums).first(count)}));
    info.blocks += count;
  }
  info.size = std::max(info.size, end);
  info.mtime = info.ctime = now_timestamp();
  LCFS_TRY(files_.put_inode(inode, info));
  return end - to;
}

Result<std::uint64_t> LayerImpl::copy_bytes(LayerImpl& source, Inode from, std::uint64_t at,
                                            Inode inode, std::uint64_t to, std::uint64_t length) {
  AlignedBuffer buffer(length);
  LCFS_TRY_ASSIGN(std::size_t const got, source.read(from, at, buffer.span()));
  if (got == 0) return std::uint64_t{0};
  LCFS_TRY_ASSIGN(std::size_t const put,
                  write(inode, to, std::span<std::byte const>(buffer.span()).first(got)));
  return std::uint64_t{put};
}

// The layers that this one may point into, besides itself; sorted.
std::vector<LayerId> LayerImpl::ancestors() const {
  ReadLock lock(store_.catalog.mutex());
  auto out = store_.catalog.layers.ancestors(id(), kAncestors);
  std::sort(out.begin(), out.end());
  return out;
}

Result<std::uint64_t> LayerImpl::copy_range(Inode from, std::uint64_t from_offset, Inode to,
                                            std::uint64_t to_offset, std::uint64_t length) {
  return copy_range(*this, from, from_offset, to, to_offset, length);
}

Result<std::uint64_t> LayerImpl::copy_range(Layer& source, Inode from, std::uint64_t from_offset,
                                            Inode to, std::uint64_t to_offset,
                                            std::uint64_t length) {
  auto* const other = dynamic_cast<LayerImpl*>(&source);
  if (other == nullptr || &other->store_ != &store_) return fs_error(EXDEV);
  if (frozen()) return fs_error(EROFS);
  LCFS_TRY_ASSIGN(Attr const have, other->getattr(from));
  LCFS_TRY_ASSIGN(Attr const gets, getattr(to));
  for (auto const& attr : {have, gets}) {
    if (S_ISDIR(attr.info.mode)) return fs_error(EISDIR);
    if (!S_ISREG(attr.info.mode)) return fs_error(EINVAL);
  }
  if (to_offset > kMaxFileSize) return fs_error(EFBIG);
  length = from_offset < have.info.size ? std::min(length, have.info.size - from_offset) : 0;
  if (other == this && from == to && to_offset < from_offset + length &&
      from_offset < to_offset + length) {
    return fs_error(EINVAL);
  }
  if (length != 0 && to_offset == kMaxFileSize) return fs_error(EFBIG);
  length = std::min(length, kMaxFileSize - to_offset);
  std::uint64_t const shift = to_offset - from_offset;  // modulo 2^64
  std::vector<LayerId> const above = ancestors();
  std::uint64_t done = 0;
  while (done < length) {
    std::uint64_t const at = from_offset + done, into = to_offset + done;
    auto piece = [&]() -> Result<std::uint64_t> {
      LCFS_TRY_ASSIGN(Stretch const s,
                      other->next_stretch(from, at, from_offset + length, shift, above, id()));
      if (s.length == 0) return std::uint64_t{0};  // it was cut short meanwhile
      if (s.way == Way::kHole) {
        LCFS_TRY(allocate(to, Allocate::kZeroRange, into, s.length));
        return s.length;
      }
      if (s.way == Way::kShare) {
        LCFS_TRY_ASSIGN(std::uint64_t const n, map_shared(to, into, shift, s));
        if (n != 0) return n;
      }
      return copy_bytes(*other, from, at, to, into, std::min(s.length, kCopyBytes));
    };
    auto const n = piece();
    if (!n && done != 0) return done;  // the next call reports it
    if (!n) return n;
    if (*n == 0) break;
    done += *n;
  }
  return done;
}

}  // namespace lcfs
