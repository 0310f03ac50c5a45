// SPDX-License-Identifier: Apache-2.0
// Layers: reading file data.
//
// What is to be read from the device is found under the lock and read without it: a writer of the
// layer does not wait for the device.  Blocks are never overwritten where they stand; what is freed
// meanwhile is used again when the second checkpoint from then is durable.  So if fewer than two
// have ended since the look, what was read is what was there then; else it is done again.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/layer_change.h"
#include "engine/layer_pages.h"
#include "format/hash.h"

namespace lcfs {
namespace {

// Files up to this size are read with their neighbours; larger ones are worth a device read each.
constexpr std::uint64_t kSmallFile = 64u << 10;

}  // namespace

// `into` lies inside the extent.
void LayerImpl::ReadPlan::add(ExtentInfo const& extent, std::uint64_t extent_offset,
                              std::uint64_t offset, std::span<std::byte> into) {
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

// Fills what `plan` names; one device read each piece, into the reader's memory if that is
// possible.  Bytes up to `room` may be overwritten.  around: what stands beside it is likely to be
// wanted too.  No lock is needed.
Status LayerImpl::run_plan(Inode inode, ReadPlan const& plan, std::byte const* room,
                           bool around) const {
  std::size_t sum = 0;
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
    LCFS_TRY(around ? store_.ahead->read_around(p.block * kBlockSize, blocks)
                    : store_.device.read(p.block * kBlockSize, blocks));
    for (std::uint64_t i = 0; i < p.count; ++i, ++sum) {
      if (!store_.options.verify_data) continue;
      if (crc32c(blocks.subspan(i * kBlockSize, kBlockSize)) != plan.sums[sum]) {  // I6
        return Error{
            Errc::kCorrupt,
            fmt::format("data checksum of layer {}, inode {}, file offset {} does not match", id(),
                        inode, p.file_offset + i * kBlockSize),
            EIO, store_.device.name(), (p.block + i) * kBlockSize};
      }
    }
    if (!direct) std::memcpy(p.into.data(), blocks.data() + p.skip, p.into.size());
  }
  return {};
}

// What the tree has, without the pages in memory; gaps are zeroes.
Status LayerImpl::plan_base(Tree::Cursor& c, Inode inode, std::uint64_t offset,
                            std::span<std::byte> into, ReadPlan& plan) const {
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
  if (offset != 0) {
    LCFS_TRY(c.seek_floor({inode, kExtent, offset}));
    if (!c.valid() || c.key().inode != inode || c.key().kind != kExtent)
      LCFS_TRY(c.seek({inode, kExtent, offset}));
  }
  std::uint64_t done = offset;  // everything below is filled in, or planned
  while (c.valid() && c.key().inode == inode && c.key().kind == kExtent && c.key().offset < end &&
         done < end) {
    std::uint64_t const at = c.key().offset;
    LCFS_TRY_ASSIGN(auto const extent, parse_extent(c.key(), c.value(), store_.space.total()));
    std::uint64_t const stop = at + std::uint64_t{extent.count} * kBlockSize;
    if (stop > done) {
      std::uint64_t const low = std::max(at, done), high = std::min(stop, end);
      if (low > done) std::memset(into.data() + (done - offset), 0, low - done);
      plan.add(extent, at, low, into.subspan(low - offset, high - low));
      done = high;
    }
    LCFS_TRY(c.next());
  }
  if (done < end) std::memset(into.data() + (done - offset), 0, end - done);
  return {};
}

Status LayerImpl::read_base(Inode inode, std::uint64_t offset, std::span<std::byte> into) const {
  Tree::Cursor c(tree_);
  ReadPlan plan;
  LCFS_TRY(plan_base(c, inode, offset, into, plan));
  return run_plan(inode, plan, into.data() + into.size());
}

// Copies what is in memory, and plans what is not.
Status LayerImpl::plan_read(Tree::Cursor& c, Inode inode, std::uint64_t offset,
                            std::span<std::byte> into, ReadPlan& plan) const {
  std::uint64_t const end = offset + into.size();
  auto const* f = peek(inode);
  for (std::uint64_t at = offset; at < end;) {
    auto part = [&](std::uint64_t from, std::uint64_t to) {
      return into.subspan(from - offset, to - from);
    };
    if (f == nullptr) return plan_base(c, inode, at, part(at, end), plan);
    auto it = f->pages.lower_bound(at / kBlockSize);
    if (it == f->pages.end() || it->first * kBlockSize >= end)
      return plan_base(c, inode, at, part(at, end), plan);
    std::uint64_t const page_at = it->first * kBlockSize;
    if (page_at > at) {
      LCFS_TRY(plan_base(c, inode, at, part(at, page_at), plan));
      at = page_at;
    }
    std::uint64_t const page_end = std::min(end, page_at + kBlockSize);
    std::memcpy(part(at, page_end).data(), it->second->bytes.data() + (at - page_at),
                page_end - at);
    at = page_end;
  }
  return {};
}

Status LayerImpl::read_locked(Inode inode, std::uint64_t offset, std::span<std::byte> into) const {
  Tree::Cursor c(tree_);
  ReadPlan plan;
  LCFS_TRY(plan_read(c, inode, offset, into, plan));
  return run_plan(inode, plan, into.data() + into.size());
}

Result<std::size_t> LayerImpl::read(Inode inode, std::uint64_t offset, std::span<std::byte> into) {
  constexpr int kTries = 3;
  for (int tries = 1;; ++tries) {
    ReadPlan plan;
    std::size_t n = 0;
    std::uint64_t before = 0;
    bool around = false;
    bool const patient = tries == kTries;  // the last time under the lock: then nothing is freed
    {
      ReadLock lock(mu_);
      Tree::Cursor c(tree_);
      LCFS_TRY_ASSIGN(InodeInfo const info, load_near(c, inode));
      if (S_ISDIR(info.mode)) return fs_error(EISDIR);
      if (!S_ISREG(info.mode)) return fs_error(EINVAL);
      if (offset >= info.size || into.empty()) return std::size_t{0};
      n = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), info.size - offset));
      before = store_.frees.load();
      around = info.size <= kSmallFile;
      LCFS_TRY(plan_read(c, inode, offset, into.first(n), plan));
      if (patient) LCFS_TRY(count_damage(run_plan(inode, plan, into.data() + into.size())));
    }
    if (!patient) {
      auto done = run_plan(inode, plan, into.data() + into.size(), around);
      if (!plan.pieces.empty() && store_.frees.load() - before >= 2) continue;
      LCFS_TRY(count_damage(std::move(done)));
    }
    reads_.fetch_add(1, std::memory_order_relaxed);
    read_bytes_.fetch_add(n, std::memory_order_relaxed);
    return n;
  }
}

Status LayerImpl::count_damage(Status result) const {
  if (!result && result.error().code == Errc::kCorrupt)
    store_.data_failures.fetch_add(1, std::memory_order_relaxed);
  return result;
}

// ---------------------------------------------------------------------------------------------------------------
// What is where

// Where mapped data at or behind `offset` begins; *end: where that stretch ends.
Result<std::optional<std::uint64_t>> LayerImpl::next_extent(Inode inode, std::uint64_t offset,
                                                            std::uint64_t* end) const {
  Tree::Cursor c(tree_);
  LCFS_TRY(c.seek({inode, kInline, 0}));
  if (c.valid() && c.key() == Key{inode, kInline, 0}) {
    *end = kBlockSize;
    return offset < kBlockSize ? std::optional(offset) : std::nullopt;
  }
  LCFS_TRY(c.seek_floor({inode, kExtent, offset}));
  if (!c.valid() || c.key().inode != inode || c.key().kind != kExtent)
    LCFS_TRY(c.seek({inode, kExtent, offset}));
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
  auto data_from = [&](std::uint64_t at, std::uint64_t* end)
                       LCFS_NO_TSA -> Result<std::optional<std::uint64_t>> {
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
  LCFS_TRY(scan(tree_, {inode, kExtent, 0}, {inode, kExtent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const e, parse_extent(key, value, store_.space.total()));
                  Run const run{key.offset, e.block * kBlockSize,
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

}  // namespace lcfs
