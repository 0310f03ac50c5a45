// SPDX-License-Identifier: Apache-2.0
// Files whose data is not placed yet (deferred allocation).
//
// write() fills pages and reserves what flushing them may take, so that ENOSPC is reported at the
// front door and never when data is placed.  flush() gives them space as one run each stretch, puts
// extents and checksums into the tree and hands the pages over for writing.  Until they are written
// they stay readable here ("writing"), and their bytes are constant.
//
// While a file has dirty pages its attributes wait here with them: the record in the tree must not
// say more than the tree has.  So whoever wants attributes asks here, not the tree.
//
// Threads: no locks; as LayerTree, whose lock is this one's too.
//
// Errors: kNoSpace (EDQUOT if it is the layer's own limit) from what reserves, before anything has
// changed; else those of LayerTree and of reading what is there.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/layer/layer_pages.h"
#include "engine/layer/layer_tree.h"
#include "engine/layer/read_plan.h"
#include "engine/space/owner_space.h"

namespace lcfs {

class DirtyFiles {
 public:
  // all_dirty: bytes of unflushed data of the whole store; this layer's part is kept up to date.
  // All of them outlive it.
  DirtyFiles(LayerTree& tree, SpaceMap& space, Quota& quota, DataReader const& reader,
             std::atomic<std::uint64_t>& all_dirty)
      : tree_(tree), space_(space), quota_(quota), reader_(reader), all_dirty_(all_dirty) {}

  // Attributes, as the file is now ----------------------------------------------------------------
  Result<InodeInfo> get_inode(Inode inode) const {
    if (auto const* f = peek(inode); f != nullptr && f->attr_dirty) return f->attr;
    return tree_.get_inode(inode);
  }
  Result<InodeInfo> get_inode_near(Tree::Cursor& cursor, Inode inode) const {
    if (auto const* f = peek(inode); f != nullptr && f->attr_dirty) return f->attr;
    return tree_.get_inode_near(cursor, inode);
  }
  Status put_inode(Inode inode, InodeInfo const& info);
  // With the blocks that its data will take: blocks are given late, but who has written a file
  // wants to see them.
  [[nodiscard]] Attr shown(Inode inode, InodeInfo info) const;

  // Reading ---------------------------------------------------------------------------------------
  // Copies what is in memory, and plans what is not.  Inside the file.
  Status plan_read(Tree::Cursor& cursor, Inode inode, std::uint64_t offset,
                   std::span<std::byte> into, ReadPlan& plan) const;
  // The first page in memory, dirty or being written, that is `number` or behind.
  [[nodiscard]] std::optional<std::uint64_t> next_page(Inode inode, std::uint64_t number) const;
  // Where data, in memory or mapped, at or behind `offset` begins; *end: where that stretch ends.
  Result<std::optional<std::uint64_t>> next_data(Inode inode, std::uint64_t offset,
                                                 std::uint64_t* end) const;

  // Changing --------------------------------------------------------------------------------------
  // `info` is the file's, and the caller's to store.
  // Stores `info` itself, which is then as it is after the write; times too.  data is not empty.
  Status write(Inode inode, InodeInfo& info, std::uint64_t offset, std::span<std::byte const> data);
  // Shorter or longer.
  Status truncate(Inode inode, InodeInfo& info, std::uint64_t size);
  // Makes [begin, end) read as zeroes, as a hole where whole blocks are covered; nothing behind the
  // end of the file is touched.
  Status punch(Inode inode, InodeInfo& info, std::uint64_t begin, std::uint64_t end);
  // [begin, end), whole blocks, is about to be mapped in another way, and the file to be of size
  // `end` at least: makes room for that.
  Status make_way(Inode inode, InodeInfo& info, std::uint64_t begin, std::uint64_t end);
  // Inline data becomes a dirty page.
  Status inline_to_page(Inode inode);

  // Everything from byte `from` on will go to `to` on: reserves what the pages will need there ...
  Status reserve_move(Inode inode, std::uint64_t from, std::uint64_t to, Urgency urgency);
  // ... and renumbers them.  Extents are the caller's.
  void move_pages(Inode inode, std::uint64_t from, std::uint64_t to);

  // Life ------------------------------------------------------------------------------------------
  [[nodiscard]] bool any() const { return !dirty_.empty(); }
  [[nodiscard]] std::uint64_t bytes() const { return pages_ * kBlockSize; }  // unflushed
  [[nodiscard]] std::uint64_t bytes_of(Inode inode) const {
    auto const* f = peek(inode);
    return f == nullptr ? 0 : f->dirty_pages * kBlockSize;
  }
  // Places the data of one file, or of all; what is to be written is added to `batch`.  Should a
  // reservation prove too small, that is not refused any more.
  Status flush(Inode inode, IoBatch& batch);
  Status flush_all(IoBatch& batch);
  // The pages of a batch are on the device.
  void written(IoBatch const& batch);
  // Forgets a file, or all, unflushed data included.
  void erase(Inode inode);
  void clear();
  // What is left of a file whose pages all went.
  void drop_if_idle(Inode inode);

 private:
  struct File {
    InodeInfo attr{};  // valid if attr_dirty
    bool attr_dirty = false;
    std::map<std::uint64_t, PageRef> pages{};  // by page number
    std::uint64_t dirty_pages = 0;             // of them not `writing`
    // Stretches of kWindowPages whose metadata is reserved.
    std::unordered_set<std::uint64_t> windows{};
    Reservation reserved{};
  };

  [[nodiscard]] File* find(Inode inode) {  // null: none
    auto const it = files_.find(inode);
    return it == files_.end() ? nullptr : it->second.get();
  }
  [[nodiscard]] File const* peek(Inode inode) const {
    auto const it = files_.find(inode);
    return it == files_.end() ? nullptr : it->second.get();
  }
  File& make(Inode inode);
  void count_dirty(std::int64_t pages);
  void note_dirty(Inode inode);  // if it has dirty pages
  Result<Reservation> reserve(std::uint64_t blocks, Urgency urgency) {
    return Reservation::make(space_, blocks, urgency, &quota_);
  }
  Status reserve_pages(File& f, std::uint64_t first, std::uint64_t last, bool small);
  Result<Page*> page_for_write(Inode inode, File& f, std::uint64_t number, bool covered,
                               std::uint64_t size);
  void drop_pages(File& f, std::uint64_t first, std::uint64_t end);
  Status zero_range(Inode inode, std::uint64_t begin, std::uint64_t end);
  Status zero_part(Inode inode, std::uint64_t begin, std::uint64_t end);
  Status outgrow_inline(Inode inode, InodeInfo const& info, std::uint64_t size);
  Status read_placed(Inode inode, std::uint64_t offset, std::span<std::byte> into) const;
  Result<bool> flush_inline(Inode inode, File& f);
  Status flush_pages(Inode inode, File& f, IoBatch& batch);
  Status flush_run(Inode inode, File& f, std::uint64_t first, std::vector<PageRef> pages,
                   IoBatch& batch);

  LayerTree& tree_;
  SpaceMap& space_;
  Quota& quota_;
  DataReader const& reader_;
  std::atomic<std::uint64_t>& all_dirty_;
  std::unordered_map<Inode, std::unique_ptr<File>> files_;
  std::unordered_set<Inode> dirty_;  // files to flush
  std::uint64_t pages_ = 0;          // dirty ones, of all files
};

}  // namespace lcfs
