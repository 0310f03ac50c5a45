// SPDX-License-Identifier: Apache-2.0
// Layers: reading file data.
//
// A reader finds out under the lock what to read from the device, and reads it without the lock:
// writers of the layer do not wait for the device.  Blocks are never overwritten in place, and
// blocks freed meanwhile are used again only when the second checkpoint from then is durable.  So
// if fewer than two have ended since the reader looked, it has read what was there then; else it
// reads again.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "engine/layer/layer_change.h"

namespace lcfs {
namespace {

// Files up to this size are read with their neighbours; larger ones get a device read each.
constexpr std::uint64_t kSmallFile = 64u << 10;

}  // namespace

Result<std::size_t> LayerImpl::read(Inode inode, std::uint64_t offset, std::span<std::byte> into) {
  constexpr int kTries = 3;
  for (int tries = 1;; ++tries) {
    ReadPlan plan;
    std::size_t n = 0;
    std::uint64_t before = 0;
    bool around = false;
    bool const patient = tries == kTries;  // the last try holds the lock: then nothing is freed
    {
      ReadLock lock(mu_);
      auto c = tree_.cursor();
      LCFS_TRY_ASSIGN(InodeInfo const info, load_near(c, inode));
      if (S_ISDIR(info.mode)) return fs_error(EISDIR);
      if (!S_ISREG(info.mode)) return fs_error(EINVAL);
      if (offset >= info.size || into.empty()) return std::size_t{0};
      n = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), info.size - offset));
      before = store_.checkpointer.frees();
      around = info.size <= kSmallFile;
      LCFS_TRY(files_.plan_read(c, inode, offset, into.first(n), plan));
      if (patient)
        LCFS_TRY(count_damage(reader_.run({id(), inode}, plan, into.data() + into.size())));
    }
    if (!patient) {
      auto done = reader_.run({id(), inode}, plan, into.data() + into.size(), around);
      if (!plan.pieces.empty() && store_.checkpointer.frees() - before >= 2) continue;
      LCFS_TRY(count_damage(std::move(done)));
    }
    reads_.fetch_add(1, std::memory_order_relaxed);
    read_bytes_.fetch_add(n, std::memory_order_relaxed);
    return n;
  }
}

// Reads are planned one by one, then sorted by place: files that were imported one after the other
// lie side by side, so a few large device reads replace one for each.
Status LayerImpl::read_many(std::span<ReadRequest const> requests) {
  constexpr int kTries = 3;
  for (int tries = 1;; ++tries) {
    std::vector<DataReader::ManyPiece> pieces;
    std::vector<ReadPlan> plans(requests.size());
    std::uint64_t before = 0, bytes = 0;
    bool const patient = tries == kTries;  // as read() does it
    {
      ReadLock lock(mu_);
      auto c = tree_.cursor();
      before = store_.checkpointer.frees();
      for (std::size_t i = 0; i < requests.size(); ++i) {
        auto const& r = requests[i];
        LCFS_TRY_ASSIGN(InodeInfo const info, load_near(c, r.inode));
        if (!S_ISREG(info.mode) || r.offset > info.size || r.into.size() > info.size - r.offset)
          return fs_error(EINVAL);
        if (r.into.empty()) continue;
        LCFS_TRY(files_.plan_read(c, r.inode, r.offset, r.into, plans[i]));
        std::uint32_t const* sum = plans[i].sums.data();
        for (auto const& piece : plans[i].pieces) {
          pieces.push_back({piece, r.inode, sum});
          sum += piece.count;
        }
        bytes += r.into.size();
      }
      if (patient) LCFS_TRY(count_damage(reader_.run_many(id(), pieces)));
    }
    if (!patient) {
      auto done = reader_.run_many(id(), pieces);
      if (!pieces.empty() && store_.checkpointer.frees() - before >= 2) continue;
      LCFS_TRY(count_damage(std::move(done)));
    }
    reads_.fetch_add(requests.size(), std::memory_order_relaxed);
    read_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return {};
  }
}

Status LayerImpl::count_damage(Status result) const {
  if (!result && result.error().code == Errc::kCorrupt)
    store_.data_failures.fetch_add(1, std::memory_order_relaxed);
  return result;
}

// What is where -----------------------------------------------------------------------------------

Result<std::uint64_t> LayerImpl::seek(Inode inode, std::uint64_t offset, Whence whence) {
  ReadLock lock(mu_);
  LCFS_TRY_ASSIGN(InodeInfo const info, load(inode));
  if (!S_ISREG(info.mode)) return fs_error(EINVAL);
  if (offset >= info.size) return fs_error(ENXIO);
  std::uint64_t end = 0;
  if (whence == Whence::kData) {
    LCFS_TRY_ASSIGN(auto const start, files_.next_data(inode, offset, &end));
    if (!start || *start >= info.size) return fs_error(ENXIO);
    return *start;
  }
  for (std::uint64_t at = offset; at < info.size; at = end) {
    LCFS_TRY_ASSIGN(auto const start, files_.next_data(inode, at, &end));
    if (!start || *start > at) return at;
  }
  return info.size;
}

Result<std::vector<Layer::Run>> LayerImpl::runs(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY(load(inode));
  return tree_.runs(inode);
}

}  // namespace lcfs
