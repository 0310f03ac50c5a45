// SPDX-License-Identifier: Apache-2.0
// A layer in memory: its tree, the space it takes, and files whose data is not yet placed.
//
// Locks: mu_ protects everything below it.  Order: StoreImpl::mu_ before LayerImpl::mu_ before the
// small ones (dirty set, SpaceMap, NodeCache shards).  Two layers' mu_ are never held at once.
//
// Deferred allocation: write() fills pages; flush_file() gives them space as one run each stretch,
// puts extents and checksums into the tree and hands the pages over for writing.  Until they are
// written they stay readable here ("writing").
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/block_pool.h"
#include "engine/layer.h"
#include "engine/owner_space.h"
#include "engine/sync.h"
#include "engine/tree.h"

namespace lcfs {

struct StoreImpl;

// One page of file data in memory.
struct Page {
  Block bytes;
  std::uint64_t number = 0;  // which page of its file it is; only insert and collapse change it
  bool writing = false;      // handed over: its bytes are constant
};
using PageRef = std::shared_ptr<Page>;

class LayerImpl;

// Data handed over for writing, outside all locks.
struct IoBatch {
  struct Piece {
    std::uint64_t device_offset = 0;
    Inode inode = 0;
    std::vector<PageRef> pages{};
  };
  std::shared_ptr<LayerImpl> layer{};
  std::vector<Piece> pieces{};
};

// What a checkpoint takes from a layer.
struct Handover {
  LayerId id = 0;
  NodePtr root{};
  std::uint64_t own_blocks = 0, used_blocks = 0, inodes = 0;
  std::vector<Extent> allocated{}, freed{};
  std::vector<NodeRef> nodes{};
  IoBatch data{};
};

class LayerImpl final : public Layer, public std::enable_shared_from_this<LayerImpl> {
 public:
  LayerImpl(StoreImpl& store, LayerInfo const& info);
  ~LayerImpl() override;

  [[nodiscard]] LayerId id() const override {
    return id_.load(std::memory_order_relaxed);
  }  // another one after a commit
  [[nodiscard]] Inode root() const override { return root_inode_; }
  [[nodiscard]] bool frozen() const override { return frozen_.load(std::memory_order_acquire); }

  Result<Attr> lookup(Inode directory, std::string_view name) override;
  Result<Attr> getattr(Inode inode) override;
  Result<Attr> setattr(Inode inode, SetAttr const& set) override;
  Result<Inode> parent_of(Inode directory) override;
  Result<std::vector<std::pair<Inode, std::string>>> names_of(Inode inode) override;
  Result<std::string> readlink(Inode inode) override;
  Result<Attr> create(Inode directory, std::string_view name, NewNode const& node) override;
  Result<Attr> symlink(Inode directory, std::string_view name, std::string_view target,
                       NewNode const& node) override;
  Result<Attr> link(Inode inode, Inode directory, std::string_view name) override;
  Result<Attr> tmpfile(NewNode const& node) override;
  Status unlink(Inode directory, std::string_view name) override;
  Status rmdir(Inode directory, std::string_view name) override;
  Status rename(Inode from, std::string_view name, Inode to, std::string_view new_name, Rename how,
                Owner whiteout = {}) override;
  Status open(Inode inode) override;
  Status release(Inode inode) override;
  Status hold_unlinked(bool on) override;
  Status forget(Inode inode) override;
  Status clear_privileges(Inode inode) override;
  Result<std::size_t> read(Inode inode, std::uint64_t offset, std::span<std::byte> into) override;
  Status read_many(std::span<ReadRequest const> requests) override;
  Result<std::size_t> write(Inode inode, std::uint64_t offset,
                            std::span<std::byte const> data) override;
  Status allocate(Inode inode, Allocate how, std::uint64_t offset, std::uint64_t length) override;
  Result<std::uint64_t> seek(Inode inode, std::uint64_t offset, Whence whence) override;
  Result<std::uint64_t> copy_range(Inode from, std::uint64_t from_offset, Inode to,
                                   std::uint64_t to_offset, std::uint64_t length) override;
  Result<std::uint64_t> copy_range(Layer& source, Inode from, std::uint64_t from_offset, Inode to,
                                   std::uint64_t to_offset, std::uint64_t length) override;
  Status fsync(Inode inode) override;
  Result<std::string> getxattr(Inode inode, std::string_view name) override;
  Status setxattr(Inode inode, std::string_view name, std::string_view value,
                  XattrMode mode) override;
  Result<std::vector<std::string>> listxattr(Inode inode) override;
  Status removexattr(Inode inode, std::string_view name) override;
  Status readdir(Inode directory, std::uint64_t cookie,
                 std::function<bool(DirEntry const&)> const& take) override;
  Status readdir_attrs(Inode directory, std::uint64_t cookie,
                       std::function<bool(DirEntry const&, Attr const&)> const& take) override;
  Result<std::vector<Run>> runs(Inode inode) override;

  // For the store
  // ---------------------------------------------------------------------------------------------

  // A new, empty tree with just a root directory.  kNoSpace: nothing was done; no room is made.
  Status make_root(Owner owner) LCFS_EXCLUDES(mu_);
  // All unflushed data is placed and written, all nodes sealed: from here on the layer never
  // changes.  Nothing happens if it is not layer `expected` any more.
  Status freeze(LayerId expected) LCFS_EXCLUDES(mu_);
  // Unflushed data is placed and written.
  Status flush() LCFS_EXCLUDES(mu_) { return flush_now(std::nullopt); }
  // Everything a checkpoint needs; the layer goes on in the next generation.
  Result<Handover> hand_over() LCFS_EXCLUDES(mu_);
  // The pages of a batch are on the device.
  void written(IoBatch const& batch) LCFS_EXCLUDES(mu_);
  // Removes inodes that had no name when the layer was last in use.
  Status remove_orphans() LCFS_EXCLUDES(mu_);
  // The layer is being removed from the store: forget everything that was not checkpointed.
  void discard() LCFS_EXCLUDES(mu_);
  // A layer being stacked: the blocks its nodes take, net; the layer no longer answers for them.
  // Normalized.
  std::vector<Extent> take_space() LCFS_EXCLUDES(mu_);
  // A commit: hands over all that the layer is, and goes on under `id` as an empty clone of it.
  Result<Handover> split(LayerId id) LCFS_EXCLUDES(mu_);
  // The layer was removed from the store but is in use: it goes on.  base: its parent, which must
  // stay readable as long.
  void removed(std::shared_ptr<LayerImpl> base) LCFS_EXCLUDES(mu_);
  void set_quota(std::uint64_t blocks) { quota_.set_limit(blocks); }
  [[nodiscard]] LayerSpace space_now() const LCFS_EXCLUDES(mu_);
  [[nodiscard]] LayerIo io() const;
  // A sealed root pointer to clone, and the counters that go with it.
  [[nodiscard]] LayerInfo snapshot(LayerInfo info) const LCFS_EXCLUDES(mu_);

 private:
  friend class Stacker;

  // What open files know better than the tree.
  struct FileState {
    InodeInfo attr{};  // valid if attr_dirty
    bool attr_dirty = false;
    std::map<std::uint64_t, PageRef> pages{};  // by page number
    std::uint64_t dirty_pages = 0;             // of them not `writing`
    std::unordered_set<std::uint64_t>
        windows{};  // stretches of 64 pages whose metadata is promised
    Reservation promise{};
    std::uint64_t opens = 0;
    bool held = false;      // has no name, and stays until forget()
    bool linkable = false;  // made by tmpfile()
  };
  // A directory entry, and the attributes of its inode if they were asked for.
  struct Listed {
    DirEntry entry{};
    Attr attr{};
  };

  // Inodes
  // ------------------------------------------------------------------------------------------
  // layer_meta.cc
  Result<InodeInfo> load(Inode inode) const LCFS_REQUIRES_SHARED(mu_);  // ENOENT
  Result<InodeInfo> load_near(Tree::Cursor& cursor, Inode inode) const LCFS_REQUIRES_SHARED(mu_);
  [[nodiscard]] Attr shown(Inode inode, InodeInfo info) const LCFS_REQUIRES_SHARED(mu_);
  Result<InodeInfo> load_dir(Inode inode) const LCFS_REQUIRES_SHARED(mu_);  // ENOTDIR too
  Status store(Inode inode, InodeInfo const& info) LCFS_REQUIRES(mu_);
  [[nodiscard]] FileState* state(Inode inode) LCFS_REQUIRES(mu_);  // null: none
  [[nodiscard]] FileState const* peek(Inode inode) const LCFS_REQUIRES_SHARED(mu_);
  FileState& make_state(Inode inode) LCFS_REQUIRES(mu_);
  void drop_state_if_idle(Inode inode) LCFS_REQUIRES(mu_);
  // Removes an inode without names: its records, its blocks.
  Status remove_inode(Inode inode) LCFS_REQUIRES(mu_);
  // The same for all of [first, last], each of which exists.
  Status remove_inodes(Inode first, Inode last) LCFS_REQUIRES(mu_);
  // Guards around every changing operation.
  Status check_changeable() const LCFS_REQUIRES(mu_);
  Status begin_change(Urgency urgency) LCFS_REQUIRES(mu_);
  template <class T>
  Result<T> end_change(Result<T> result, std::uint64_t changes_before) LCFS_REQUIRES(mu_);
  template <class Op>
  auto change(std::uint64_t blocks, Urgency urgency, Op const& op) LCFS_EXCLUDES(mu_);
  void count_nodes() LCFS_REQUIRES(mu_);
  void free_blocks(std::uint64_t block, std::uint64_t count, std::uint64_t owner)
      LCFS_REQUIRES(mu_);
  Status spill_if_large() LCFS_REQUIRES(mu_);

  // What keeps inodes without names
  // ------------------------------------------------------------------ layer_open.cc
  enum class Keeper : std::uint8_t { kOpen, kHeld };
  Status unlinked(Inode inode, InodeInfo& info) LCFS_REQUIRES(mu_);  // nlink just became 0
  [[nodiscard]] bool kept_alive(Inode inode) const LCFS_REQUIRES_SHARED(mu_);
  void hold(FileState& f) LCFS_REQUIRES(mu_);
  void unhold(FileState& f) LCFS_REQUIRES(mu_);
  Status let_go(Inode inode, Keeper keeper) LCFS_EXCLUDES(mu_);
  Status let_go_locked(Inode inode, Keeper keeper) LCFS_REQUIRES(mu_);
  void await_forgotten() LCFS_EXCLUDES(
      mu_);  // until nothing is held, or for some time nothing goes: 0.3 s, then less for a while
  void forget_left_over() LCFS_EXCLUDES(mu_);  // what forget() had no room to remove

  // Names
  // -------------------------------------------------------------------------------------------
  // layer_names.cc
  Result<std::optional<DirentInfo>> find_entry(Inode directory, std::string_view name,
                                               Record& hold) const LCFS_REQUIRES_SHARED(mu_);
  Status add_entry(Inode directory, std::string_view name, Inode inode, std::uint32_t mode)
      LCFS_REQUIRES(mu_);
  Result<Key> free_entry(Inode directory, std::string_view name) const LCFS_REQUIRES_SHARED(mu_);
  [[nodiscard]] bool is_own(Inode directory, std::string_view name) const LCFS_EXCLUDES(mu_);
  [[nodiscard]] Urgency removal(Inode directory, std::string_view name) const LCFS_EXCLUDES(mu_);
  Status remove_entry(Inode directory, std::string_view name, Inode inode) LCFS_REQUIRES(mu_);
  Status remove_back_reference(Inode directory, std::string_view name, Inode inode)
      LCFS_REQUIRES(mu_);
  Status replace_entry(Inode directory, std::string_view name, Inode old_inode, Inode inode,
                       std::uint32_t mode) LCFS_REQUIRES(mu_);
  Result<Attr> new_inode(Inode directory, std::string_view name, NewNode const& node,
                         std::string_view target) LCFS_REQUIRES(mu_);
  Status do_unlink(Inode directory, std::string_view name, bool want_directory) LCFS_REQUIRES(mu_);
  Status do_rename(Inode from, std::string_view name, Inode to, std::string_view new_name,
                   Rename how, Owner whiteout) LCFS_REQUIRES(mu_);
  Result<Inode> parent_locked(Inode directory) const LCFS_REQUIRES_SHARED(mu_);
  Result<bool> is_inside(Inode directory, Inode ancestor) const LCFS_REQUIRES_SHARED(mu_);
  Status list(Inode directory, std::uint64_t cookie, std::size_t most, bool attrs,
              std::vector<Listed>& into) const LCFS_EXCLUDES(mu_);
  template <class Take>
  Status walk(Inode directory, std::uint64_t cookie, bool attrs, Take const& take) const
      LCFS_EXCLUDES(mu_);

  // Data -------------------------- layer_read.cc, layer_data.cc, layer_flush.cc,
  // layer_allocate.cc, layer_copy.cc
  Status read_base(Inode inode, std::uint64_t offset, std::span<std::byte> into) const
      LCFS_REQUIRES_SHARED(mu_);
  // What is to be read from the device: blocks that stand side by side there and in the reader's
  // memory.
  struct ReadPlan {
    struct Piece {
      std::uint64_t block = 0, count = 0;
      std::uint64_t file_offset = 0;  // of the first block
      std::size_t skip = 0;           // bytes of it that are not wanted
      std::span<std::byte> into{};
    };
    std::vector<Piece> pieces{};
    std::vector<std::uint32_t> sums{};  // of all blocks, one piece after the other
    void add(ExtentInfo const& extent, std::uint64_t extent_offset, std::uint64_t offset,
             std::span<std::byte> into);
  };
  Status plan_base(Tree::Cursor& c, Inode inode, std::uint64_t offset, std::span<std::byte> into,
                   ReadPlan& plan) const LCFS_REQUIRES_SHARED(mu_);
  Status plan_read(Tree::Cursor& c, Inode inode, std::uint64_t offset, std::span<std::byte> into,
                   ReadPlan& plan) const LCFS_REQUIRES_SHARED(mu_);
  Status run_plan(Inode inode, ReadPlan const& plan, std::byte const* room,
                  bool around = false) const;
  // Of many reads: each piece with its file and its checksums.
  struct ManyPiece {
    ReadPlan::Piece piece{};
    Inode inode = 0;
    std::uint32_t const* sums = nullptr;
  };
  Status run_plans(std::vector<ManyPiece>& pieces) const;
  Status count_damage(Status result) const;
  Status read_locked(Inode inode, std::uint64_t offset, std::span<std::byte> into) const
      LCFS_REQUIRES_SHARED(mu_);
  Result<Page*> page_for_write(Inode inode, FileState& f, std::uint64_t number, bool covered,
                               std::uint64_t size) LCFS_REQUIRES(mu_);
  Status promise_pages(FileState& f, std::uint64_t first, std::uint64_t last, bool small)
      LCFS_REQUIRES(mu_);
  Status do_write(Inode inode, std::uint64_t offset, std::span<std::byte const> data)
      LCFS_REQUIRES(mu_);
  Status do_truncate(Inode inode, InodeInfo& info, std::uint64_t size) LCFS_REQUIRES(mu_);
  Status zero_range(Inode inode, std::uint64_t begin, std::uint64_t end) LCFS_REQUIRES(mu_);
  Status inline_to_page(Inode inode) LCFS_REQUIRES(mu_);
  Status outgrow_inline(Inode inode, InodeInfo const& info, std::uint64_t size) LCFS_REQUIRES(mu_);
  Status punch(Inode inode, InodeInfo& info, std::uint64_t begin, std::uint64_t end)
      LCFS_REQUIRES(mu_);
  // Extents and pages get other numbers (collapse, insert).
  struct Move {
    std::uint64_t from = 0,
                  to = 0;  // byte offsets: what is at `from` and behind goes to `to` and behind
    std::vector<std::uint64_t> batches{};  // first offsets of bounded stretches of records
  };
  Status collapse(Inode inode, InodeInfo& info, std::uint64_t offset, std::uint64_t length,
                  Reservation& pays) LCFS_REQUIRES(mu_);
  Status insert(Inode inode, InodeInfo& info, std::uint64_t offset, std::uint64_t length,
                Reservation& pays) LCFS_REQUIRES(mu_);
  Result<Move> plan_move(Inode inode, std::uint64_t from, std::uint64_t to, Urgency urgency,
                         Reservation& pays) LCFS_REQUIRES(mu_);
  Status split_extent(Inode inode, std::uint64_t offset) LCFS_REQUIRES(mu_);
  Status move_extents(Inode inode, Move const& move) LCFS_REQUIRES(mu_);
  // A part of a file that copy_range() can treat in one way.
  enum class Way : std::uint8_t { kHole, kShare, kCopy };
  struct Stretch {
    struct Shared {
      std::uint64_t file_offset = 0, block = 0;
      LayerId owner = 0;
      std::vector<le32> checksums{};
    };
    Way way = Way::kHole;
    std::uint64_t length = 0;       // bytes; 0: the file has ended
    bool file_ends = false;         // with what was asked for
    std::vector<Shared> extents{};  // kShare: all of it, without gaps
  };
  Result<Stretch> next_stretch(Inode inode, std::uint64_t at, std::uint64_t end,
                               std::uint64_t shift, std::vector<LayerId> const& ancestors,
                               LayerId target) const LCFS_EXCLUDES(mu_);
  Result<std::uint64_t> map_shared(Inode inode, std::uint64_t to, std::uint64_t shift,
                                   Stretch const& stretch) LCFS_EXCLUDES(mu_);
  Result<std::uint64_t> copy_bytes(LayerImpl& source, Inode from, std::uint64_t at, Inode inode,
                                   std::uint64_t to, std::uint64_t length) LCFS_EXCLUDES(mu_);
  [[nodiscard]] std::vector<LayerId> ancestors() const LCFS_EXCLUDES(mu_);
  void drop_pages(FileState& f, std::uint64_t first, std::uint64_t end) LCFS_REQUIRES(mu_);
  // Removes the mapping of [begin, end) (bytes, block aligned); returns how many blocks it held.
  Result<std::uint64_t> unmap(Inode inode, std::uint64_t begin, std::uint64_t end)
      LCFS_REQUIRES(mu_);
  Status map_extent(Inode inode, std::uint64_t offset, Extent blocks,
                    std::vector<std::uint32_t> const& sums) LCFS_REQUIRES(mu_);
  Status flush_file(Inode inode, IoBatch& batch) LCFS_REQUIRES(mu_);
  Result<bool> flush_inline(Inode inode, FileState& f) LCFS_REQUIRES(mu_);
  Status flush_run(Inode inode, FileState& f, std::uint64_t first, std::vector<PageRef> pages,
                   IoBatch& batch) LCFS_REQUIRES(mu_);
  Status flush_all(IoBatch& batch) LCFS_REQUIRES(mu_);
  Status flush_now(std::optional<Inode> inode) LCFS_EXCLUDES(mu_);  // places and writes
  Status fill(Handover& h) LCFS_REQUIRES(mu_);
  Status write_out(IoBatch const& batch, std::uint64_t ticket, Status placed) LCFS_EXCLUDES(mu_);
  Result<std::optional<std::uint64_t>> next_extent(Inode inode, std::uint64_t offset,
                                                   std::uint64_t* end) const
      LCFS_REQUIRES_SHARED(mu_);
  void count_dirty(std::int64_t pages) LCFS_REQUIRES(mu_);

  // Xattrs
  // ------------------------------------------------------------------------------------------
  // layer_xattr.cc
  Result<std::optional<Key>> find_xattr(Tree::Cursor& cursor, Inode inode, std::string_view name,
                                        std::optional<Key>* free) const LCFS_REQUIRES_SHARED(mu_);
  Result<std::string> xattr_value(Key const& key) const LCFS_REQUIRES_SHARED(mu_);
  Status put_xattr(Inode inode, std::string_view name, std::string_view value, XattrMode mode)
      LCFS_REQUIRES(mu_);
  Status erase_xattr(Key const& key) LCFS_REQUIRES(mu_);  // of its first chunk
  static Status check_new_xattrs(NewNode const& node);
  static std::uint64_t new_node_blocks(
      NewNode const& node);  // worst case of a new inode with these
  Status put_new_xattrs(Inode inode, NewNode const& node) LCFS_REQUIRES(mu_);

  // Space for an operation or for dirty data, within the layer's quota.
  Result<Reservation> promise(std::uint64_t blocks, Urgency urgency) LCFS_REQUIRES(mu_);

  StoreImpl& store_;
  std::atomic<LayerId> id_;  // changed under mu_, by split()
  Inode const root_inode_;
  std::atomic<bool> frozen_;
  Quota quota_;
  std::atomic<std::uint64_t> reads_{0}, read_bytes_{0}, writes_{0},
      written_bytes_{0};  // statistics

  mutable SharedMutex mu_;
  OwnerSpace space_ LCFS_GUARDED_BY(mu_);
  Tree tree_ LCFS_GUARDED_BY(mu_);
  std::uint64_t own_blocks_ LCFS_GUARDED_BY(mu_);
  std::uint64_t used_blocks_ LCFS_GUARDED_BY(mu_);
  std::uint64_t inodes_ LCFS_GUARDED_BY(mu_);
  bool dirty_ LCFS_GUARDED_BY(mu_) = false;  // in the store's dirty set
  bool discarded_ LCFS_GUARDED_BY(mu_) = false;
  bool removed_ LCFS_GUARDED_BY(mu_) = false;
  std::shared_ptr<LayerImpl> base_ LCFS_GUARDED_BY(mu_);  // of a removed layer in use
  std::vector<NodeRef> sealed_
      LCFS_GUARDED_BY(mu_);  // sealed since the last hand-over, not yet given to the store
  std::unordered_map<Inode, std::unique_ptr<FileState>> files_ LCFS_GUARDED_BY(mu_);
  std::unordered_set<Inode> dirty_files_ LCFS_GUARDED_BY(mu_);
  std::uint64_t dirty_pages_ LCFS_GUARDED_BY(mu_) = 0;
  bool holding_ LCFS_GUARDED_BY(mu_) = false;  // hold_unlinked()
  std::atomic<std::uint64_t> held_{0};         // how many files_ are held; changed under mu_
  std::atomic<std::uint64_t> going_{0};        // calls of forget() that are under way
  std::atomic<std::chrono::steady_clock::duration>
      vain_until_{};  // await_forgotten() waits little: since the epoch of that clock
  std::vector<Inode> left_over_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
