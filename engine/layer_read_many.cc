// SPDX-License-Identifier: Apache-2.0
// Layers: many reads at once.  Planned as single ones are (layer_read.cc), then sorted by place:
// files that came in one after the other lie one behind the other, so what would be a device read
// each becomes a few large ones.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/layer_change.h"
#include "format/hash.h"

namespace lcfs {

namespace {
constexpr std::uint64_t kGroupBlocks = 512;  // of one device read: 2 MiB
constexpr std::uint64_t kGapBlocks =
    4;  // that nobody asked for are read along, rather than read twice
}  // namespace

Status LayerImpl::run_plans(std::vector<ManyPiece>& pieces) const {
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
    LCFS_TRY(store_.device.read(first * kBlockSize, buffer.span().first(bytes)));
    for (; i < to; ++i) {
      auto const& p = pieces[i].piece;
      auto const blocks =
          buffer.span().subspan((p.block - first) * kBlockSize, p.count * kBlockSize);
      for (std::uint64_t k = 0; store_.options.verify_data && k < p.count; ++k) {
        if (crc32c(blocks.subspan(k * kBlockSize, kBlockSize)) != pieces[i].sums[k]) {  // I6
          return Error{
              Errc::kCorrupt,
              fmt::format("data checksum of layer {}, inode {}, file offset {} does not match",
                          id(), pieces[i].inode, p.file_offset + k * kBlockSize),
              EIO, store_.device.name(), (p.block + k) * kBlockSize};
        }
      }
      std::memcpy(p.into.data(), blocks.data() + p.skip, p.into.size());
    }
  }
  return {};
}

Status LayerImpl::read_many(std::span<ReadRequest const> requests) {
  constexpr int kTries = 3;
  for (int tries = 1;; ++tries) {
    std::vector<ManyPiece> pieces;
    std::vector<ReadPlan> plans(requests.size());
    std::uint64_t before = 0, bytes = 0;
    bool const patient = tries == kTries;  // as read() does it
    {
      ReadLock lock(mu_);
      Tree::Cursor c(tree_);
      before = store_.frees.load();
      for (std::size_t i = 0; i < requests.size(); ++i) {
        auto const& r = requests[i];
        LCFS_TRY_ASSIGN(InodeInfo const info, load_near(c, r.inode));
        if (!S_ISREG(info.mode) || r.offset > info.size || r.into.size() > info.size - r.offset)
          return fs_error(EINVAL);
        if (r.into.empty()) continue;
        LCFS_TRY(plan_read(c, r.inode, r.offset, r.into, plans[i]));
        std::uint32_t const* sum = plans[i].sums.data();
        for (auto const& piece : plans[i].pieces) {
          pieces.push_back({piece, r.inode, sum});
          sum += piece.count;
        }
        bytes += r.into.size();
      }
      if (patient) LCFS_TRY(count_damage(run_plans(pieces)));
    }
    if (!patient) {
      auto done = run_plans(pieces);
      if (!pieces.empty() && store_.frees.load() - before >= 2) continue;
      LCFS_TRY(count_damage(std::move(done)));
    }
    reads_.fetch_add(requests.size(), std::memory_order_relaxed);
    read_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return {};
  }
}

}  // namespace lcfs
