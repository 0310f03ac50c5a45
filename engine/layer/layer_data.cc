// SPDX-License-Identifier: Apache-2.0
// Layers: writing file data, and when what was written goes to the device.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "engine/layer/layer_change.h"

namespace lcfs {

Status LayerImpl::do_write(Inode inode, std::uint64_t offset, std::span<std::byte const> data) {
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  if (S_ISDIR(info.mode)) return fs_error(EISDIR);
  if (!S_ISREG(info.mode)) return fs_error(EINVAL);
  if (data.empty()) return {};
  if (offset > kMaxFileSize || data.size() > kMaxFileSize - offset) return fs_error(EFBIG);
  return files_.write(inode, info, offset, data);
}

Result<std::size_t> LayerImpl::write(Inode inode, std::uint64_t offset,
                                     std::span<std::byte const> data) {
  // Bounded pieces: what a piece reserves and its dirty pages stay within what one flush takes.
  constexpr std::size_t kPiece = 4u << 20;
  writes_.fetch_add(1, std::memory_order_relaxed);
  std::size_t done = 0;
  do {
    auto const part = data.subspan(done, std::min(kPiece, data.size() - done));
    bool file_full = false;
    auto ok = change(0, Urgency::kOrdinary, [&]() LCFS_REQUIRES(mu_) -> Status {
      LCFS_TRY(do_write(inode, offset + done, part));
      file_full = files_.bytes_of(inode) > store_.options.dirty_data_file;
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
        ours = files_.bytes() > store_.options.dirty_data / 8;
      }
      LCFS_TRY(ours ? flush_now(std::nullopt) : store_.checkpointer.run(false));
    }
  } while (done < data.size());
  return done;
}

// To the device -----------------------------------------------------------------------------------

Status LayerImpl::place(std::optional<Inode> inode, IoBatch& batch) {
  LCFS_TRY(inode ? files_.flush(*inode, batch) : files_.flush_all(batch));
  if (!batch.pieces.empty()) batch.layer = shared_from_this();
  return {};
}

Status LayerImpl::flush_now(std::optional<Inode> inode) {
  IoBatch batch;
  std::uint64_t const ticket = store_.flushes.begin();
  Status result = [&]() -> Status {
    WriteLock lock(mu_);
    LCFS_TRY(check_changeable());
    if (!dirty_ && !files_.any()) return {};
    LCFS_TRY(begin_change(Urgency::kEmergency));  // mostly dirty already, by a writer
    std::uint64_t const before = tree_.changes();
    LCFS_TRY(end_change(place(inode, batch), before));
    return spill_if_large();
  }();
  return write_out(batch, ticket, std::move(result));
}

// The second half of a flush outside checkpoints: writes what was placed, and returns the ticket.
Status LayerImpl::write_out(IoBatch const& batch, std::uint64_t ticket, Status result) {
  if (result && !batch.pieces.empty()) {
    result = store_.writeback.data(batch);
    if (!result) result = store_.health.fail(std::move(result).error());
  }
  store_.flushes.end(ticket);
  if (result && batch.layer) written(batch);
  return result;
}

void LayerImpl::written(IoBatch const& batch) {
  WriteLock lock(mu_);
  files_.written(batch);
}

}  // namespace lcfs
