// SPDX-License-Identifier: Apache-2.0
// Layers: fallocate: holes, zeroes, and ranges taken out of a file or put into it.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "engine/layer_change.h"
#include "engine/layer_pages.h"

namespace lcfs {

namespace {

// Extent records are renumbered in batches: this many bytes of them at a time are in memory ...
constexpr std::size_t kMoveBytes = 256u << 10;
// ... which take at most so many blocks: new leaves, those at both ends copied, joined with
// neighbours, and the paths to them, once more if the nodes were written early in between.
constexpr std::uint64_t kMoveBlocks = 256;

}  // namespace

// Makes [begin, end) read as zeroes, as a hole where whole blocks are covered; nothing behind the
// end of the file is touched.
Status LayerImpl::punch(Inode inode, InodeInfo& info, std::uint64_t begin, std::uint64_t end) {
  std::uint64_t const stop = std::min(end, round_up(info.size));
  if (begin >= stop) return {};
  auto zero_part = [&](std::uint64_t from, std::uint64_t to) LCFS_NO_TSA -> Status {
    if (from >= to) return {};
    std::uint64_t data_end = 0;
    LCFS_TRY_ASSIGN(auto const mapped, next_extent(inode, round_down(from), &data_end));
    auto const* f = state(inode);
    bool const in_memory = f != nullptr && f->pages.contains(from / kBlockSize);
    if (in_memory || (mapped && *mapped < round_up(to))) return zero_range(inode, from, to);
    return {};
  };
  std::uint64_t const first = round_up(begin), last = round_down(stop);
  if (first > last) return zero_part(begin, stop);  // inside one block
  LCFS_TRY(zero_part(begin, first));
  LCFS_TRY(zero_part(last, stop));
  if (first == last) return {};
  if (auto* f = state(inode)) drop_pages(*f, first / kBlockSize, last / kBlockSize);
  LCFS_TRY_ASSIGN(std::uint64_t const removed, unmap(inode, first, last));
  info.blocks -= removed;
  if (first == 0) LCFS_TRY(tree_.erase({inode, kInline, 0}));
  return {};
}

Status LayerImpl::allocate(Inode inode, Allocate how, std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return fs_error(EINVAL);
  if (offset > kMaxFileSize || length > kMaxFileSize - offset) return fs_error(EFBIG);
  bool const removes = how == Allocate::kPunchHole || how == Allocate::kCollapse;
  return change(
      kOperationBlocks, removes ? Urgency::kEmergency : Urgency::kOrdinary,
      [&]() LCFS_NO_TSA -> Status {
        Reservation extra;  // pays for the rest of the operation, if it is more than usual
        LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
        if (S_ISDIR(info.mode)) return fs_error(EISDIR);
        if (!S_ISREG(info.mode)) return fs_error(ENODEV);
        std::uint64_t const end = offset + length;
        switch (how) {
          case Allocate::kExtend:
          case Allocate::kKeepSize: {
            // Holes stay holes, there are no unwritten extents; what can be promised is that the
            // room is there now.
            LCFS_TRY_ASSIGN(Reservation const room,
                            promise(length / kBlockSize + 1, Urgency::kOrdinary));
            break;
          }
          case Allocate::kCollapse: LCFS_TRY(collapse(inode, info, offset, length, extra)); break;
          case Allocate::kInsert: LCFS_TRY(insert(inode, info, offset, length, extra)); break;
          default: LCFS_TRY(punch(inode, info, offset, end)); break;
        }
        bool const extends = how == Allocate::kExtend || how == Allocate::kZeroRange;
        if (extends && end > info.size) LCFS_TRY(do_truncate(inode, info, end));
        info.ctime = now_timestamp();
        if (how != Allocate::kExtend && how != Allocate::kKeepSize) info.mtime = info.ctime;
        return store(inode, info);
      });
}

// ---------------------------------------------------------------------------------------------------------------
// Renumbering

Status LayerImpl::collapse(Inode inode, InodeInfo& info, std::uint64_t offset, std::uint64_t length,
                           Reservation& pays) {
  if (offset % kBlockSize != 0 || length % kBlockSize != 0 || offset + length >= info.size)
    return fs_error(EINVAL);
  LCFS_TRY_ASSIGN(Move const move,
                  plan_move(inode, offset + length, offset, Urgency::kEmergency, pays));
  LCFS_TRY(punch(inode, info, offset, offset + length));
  LCFS_TRY(move_extents(inode, move));
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
  LCFS_TRY(split_extent(inode, offset));
  LCFS_TRY(move_extents(inode, move));
  info.size += length;
  return {};
}

// Finds what there is to move, and makes all promises: `pays` pays for everything from here on, and
// the pages among it have what they will need at their new place.  Then inline data is no more: it
// is a dirty page, for it will not stay at the start.
Result<LayerImpl::Move> LayerImpl::plan_move(Inode inode, std::uint64_t from, std::uint64_t to,
                                             Urgency urgency, Reservation& pays) {
  Move move{from, to, {}};
  LCFS_TRY(inline_to_page(inode));
  std::size_t bytes = kMoveBytes;
  LCFS_TRY(scan(tree_, {inode, kExtent, from}, {inode, kExtent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  if (bytes >= kMoveBytes) {
                    move.batches.push_back(key.offset);
                    bytes = 0;
                  }
                  bytes += value.size() + sizeof(LeafSlot);
                  return true;
                }));
  // An extent that reaches over `from` is split: its second half goes too.
  if (move.batches.empty() || move.batches.front() != from)
    move.batches.insert(move.batches.begin(), from);
  std::uint64_t const blocks = 2 * kOperationBlocks + move.batches.size() * kMoveBlocks;
  LCFS_TRY_ASSIGN(pays, promise(blocks, urgency));
  auto* f = state(inode);
  if (f != nullptr && f->dirty_pages != 0) {
    std::set<std::uint64_t> windows;
    for (auto it = f->pages.lower_bound(from / kBlockSize); it != f->pages.end(); ++it) {
      if (it->second->writing) continue;
      std::uint64_t const window = (it->first - from / kBlockSize + to / kBlockSize) / kWindowPages;
      if (!f->windows.contains(window)) windows.insert(window);
    }
    LCFS_TRY_ASSIGN(Reservation more, promise(windows.size() * kWindowBlocks, urgency));
    more.give(f->promise, more.left());
    f->windows.insert(windows.begin(), windows.end());
    dirty_files_.insert(inode);
  }
  space_.set_payer(&pays);
  LCFS_TRY(tree_.erase({inode, kInline, 0}));
  return move;
}

// Cuts in two the extent that reaches over `offset`, if there is one.
Status LayerImpl::split_extent(Inode inode, std::uint64_t offset) {
  std::vector<std::byte> left, right;
  Key key;
  {
    Tree::Cursor c(tree_);
    LCFS_TRY(c.seek_floor({inode, kExtent, offset}));
    if (!c.valid() || c.key().inode != inode || c.key().kind != kExtent) return {};
    key = c.key();
    LCFS_TRY_ASSIGN(auto const extent, parse_extent(key, c.value(), store_.space.total()));
    auto const head = static_cast<std::uint32_t>(
        std::min<std::uint64_t>((offset - key.offset) / kBlockSize, extent.count));
    if (head == 0 || head == extent.count) return {};
    encode_extent({extent.block, extent.owner, head, extent.checksums.first(head)}, left);
    encode_extent(
        {extent.block + head, extent.owner, extent.count - head, extent.checksums.subspan(head)},
        right);
  }
  LCFS_TRY(tree_.put(key, left));
  return tree_.put({inode, kExtent, offset}, right);
}

// Everything from move.from on goes to move.to on; what is there is gone already, and no extent
// reaches over move.from.
Status LayerImpl::move_extents(Inode inode, Move const& move) {
  auto moved = [&](std::uint64_t offset) { return offset - move.from + move.to; };
  struct Piece {
    std::uint64_t offset;
    std::vector<std::byte> record;
  };
  std::vector<Piece> pieces;
  auto one_batch = [&](std::size_t i) LCFS_NO_TSA -> Status {
    Key const low{inode, kExtent, move.batches[i]};
    Key const high{inode, kExtent, i + 1 < move.batches.size() ? move.batches[i + 1] - 1 : ~0ull};
    pieces.clear();
    LCFS_TRY(tree_.erase_range(low, high, [&](Key const& key, Bytes value) -> Status {
      pieces.push_back({key.offset, {value.begin(), value.end()}});
      return {};
    }));
    for (auto const& p : pieces) LCFS_TRY(tree_.put({inode, kExtent, moved(p.offset)}, p.record));
    return spill_if_large();
  };
  // Away from what has not moved yet: the far end first when it goes up, the near end first when it
  // goes down.
  for (std::size_t n = 0; n < move.batches.size(); ++n) {
    LCFS_TRY(one_batch(move.to > move.from ? move.batches.size() - 1 - n : n));
  }
  auto* f = state(inode);
  if (f == nullptr) return {};
  std::map<std::uint64_t, PageRef> behind;
  for (auto it = f->pages.lower_bound(move.from / kBlockSize); it != f->pages.end();) {
    auto node = f->pages.extract(it++);
    node.key() = moved(node.key() * kBlockSize) / kBlockSize;
    node.mapped()->number = node.key();
    behind.insert(behind.end(), std::move(node));
  }
  f->pages.merge(behind);
  return {};
}

}  // namespace lcfs
