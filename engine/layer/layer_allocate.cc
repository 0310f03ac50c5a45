// SPDX-License-Identifier: Apache-2.0
// Layers: fallocate: holes, zeroes, and ranges taken out of a file or put into it.
#include <sys/stat.h>

#include <cerrno>

#include "engine/layer/layer_change.h"

namespace lcfs {

namespace {

// Extent records are renumbered in batches.  So many bytes of them are in memory at a time ...
constexpr std::size_t kMoveBytes = 256u << 10;
// ... and a batch takes at most so many blocks: new leaves, those at both ends copied, joined with
// neighbours, and the paths to them; once more if the nodes were written early in between.
constexpr std::uint64_t kMoveBlocks = 256;

}  // namespace

Status LayerImpl::allocate(Inode inode, Allocate how, std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return fs_error(EINVAL);
  if (offset > kMaxFileSize || length > kMaxFileSize - offset) return fs_error(EFBIG);
  bool const removes = how == Allocate::kPunchHole || how == Allocate::kCollapse;
  return change(kOperationBlocks, removes ? Urgency::kEmergency : Urgency::kOrdinary,
                [&]() LCFS_REQUIRES(mu_) { return do_allocate(inode, how, offset, length); });
}

Status LayerImpl::do_allocate(Inode inode, Allocate how, std::uint64_t offset,
                              std::uint64_t length) {
  Reservation extra;  // pays for the rest of the operation, if it is more than usual
  LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
  if (S_ISDIR(info.mode)) return fs_error(EISDIR);
  if (!S_ISREG(info.mode)) return fs_error(ENODEV);
  std::uint64_t const end = offset + length;
  switch (how) {
    case Allocate::kExtend:
    case Allocate::kKeepSize: {
      // Holes stay holes, there are no unwritten extents: all that can be said is that there is
      // room for them now.
      LCFS_TRY_ASSIGN(Reservation const room, reserve(length / kBlockSize + 1, Urgency::kOrdinary));
      break;
    }
    case Allocate::kCollapse: LCFS_TRY(collapse(inode, info, offset, length, extra)); break;
    case Allocate::kInsert: LCFS_TRY(insert(inode, info, offset, length, extra)); break;
    default: LCFS_TRY(files_.punch(inode, info, offset, end)); break;
  }
  bool const extends = how == Allocate::kExtend || how == Allocate::kZeroRange;
  if (extends && end > info.size) LCFS_TRY(files_.truncate(inode, info, end));
  info.ctime = now_timestamp();
  if (how != Allocate::kExtend && how != Allocate::kKeepSize) info.mtime = info.ctime;
  return files_.put_inode(inode, info);
}

// Renumbering -------------------------------------------------------------------------------------

Status LayerImpl::collapse(Inode inode, InodeInfo& info, std::uint64_t offset, std::uint64_t length,
                           Reservation& pays) {
  if (offset % kBlockSize != 0 || length % kBlockSize != 0 || offset + length >= info.size)
    return fs_error(EINVAL);
  LCFS_TRY_ASSIGN(Move const move,
                  plan_move(inode, offset + length, offset, Urgency::kEmergency, pays));
  LCFS_TRY(files_.punch(inode, info, offset, offset + length));
  LCFS_TRY(carry_out(inode, move));
  info.size -= length;
  return {};
}

Status LayerImpl::insert(Inode inode, InodeInfo& info, std::uint64_t offset, std::uint64_t length,
                         Reservation& pays) {
  if (offset % kBlockSize != 0 || length % kBlockSize != 0) return fs_error(EINVAL);
  if (length > kMaxFileSize - info.size) return fs_error(EFBIG);
  if (offset >= info.size) return fs_error(EINVAL);
  LCFS_TRY_ASSIGN(Move const move,
                  plan_move(inode, offset, offset + length, Urgency::kOrdinary, pays));
  LCFS_TRY(tree_.split_extent(inode, offset));
  LCFS_TRY(carry_out(inode, move));
  info.size += length;
  return {};
}

// Finds what there is to move, and makes all reservations: `pays` pays for everything from here on,
// and the pages among it have what they will need at their new place.  Then inline data is no more:
// it is a dirty page, for it will not stay at the start.
Result<LayerImpl::Move> LayerImpl::plan_move(Inode inode, std::uint64_t from, std::uint64_t to,
                                             Urgency urgency, Reservation& pays) {
  Move move{from, to, {}};
  LCFS_TRY(files_.inline_to_page(inode));
  LCFS_TRY_ASSIGN(move.batches, tree_.extent_batches(inode, from, kMoveBytes));
  std::uint64_t const blocks = 2 * kOperationBlocks + move.batches.size() * kMoveBlocks;
  LCFS_TRY_ASSIGN(pays, reserve(blocks, urgency));
  LCFS_TRY(files_.reserve_move(inode, from, to, urgency));
  tree_.set_payer(&pays);
  LCFS_TRY(tree_.erase_inline(inode));
  return move;
}

// Everything from move.from on goes to move.to on; what is there is gone already, and no extent
// reaches over move.from.
Status LayerImpl::carry_out(Inode inode, Move const& move) {
  // Away from what has not moved yet: the far end first when it goes up, the near end first when it
  // goes down.
  std::size_t const batches = move.batches.size();
  for (std::size_t n = 0; n < batches; ++n) {
    std::size_t const i = move.to > move.from ? batches - 1 - n : n;
    std::uint64_t const last = i + 1 < batches ? move.batches[i + 1] - 1 : ~0ull;
    LCFS_TRY(tree_.move_extents(inode, move.batches[i], last, move.from, move.to));
    LCFS_TRY(spill_if_large());
  }
  files_.move_pages(inode, move.from, move.to);
  return {};
}

}  // namespace lcfs
