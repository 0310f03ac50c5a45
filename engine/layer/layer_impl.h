// SPDX-License-Identifier: Apache-2.0
// A layer in memory: what makes Layer of its parts.
//
// LayerImpl has the lock, POSIX's rules and the life of the object: frozen, handed over to a
// checkpoint, split by a commit, removed while in use, discarded.  Its parts know no locks:
//   LayerTree   the records, on the device sooner or later
//   DirtyFiles  data and attributes that are not placed yet
//   OpenFiles   what keeps inodes without names
//
// Locks: mu_ protects everything below it.  Order: the store's structure lock before
// LayerImpl::mu_ before the small ones (dirty set, SpaceMap, NodeCache shards).  Two layers' mu_
// are never held at once.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/layer.h"
#include "engine/layer/dirty_files.h"
#include "engine/layer/layer_pages.h"
#include "engine/layer/layer_tree.h"
#include "engine/layer/open_files.h"
#include "engine/layer/read_plan.h"
#include "engine/locks/lock_order.h"
#include "engine/space/owner_space.h"

namespace lcfs {

struct StoreImpl;

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
  }  // changes with a commit
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

  // For the store ---------------------------------------------------------------------------------

  // Makes an empty tree with just a root directory.  kNoSpace: nothing was done; no room is made.
  Status make_root(Owner owner) LCFS_EXCLUDES(mu_);
  // Places and writes all data, and seals all nodes: from here on the layer never changes.  Does
  // nothing if it is not layer `expected` any more.
  Status freeze(LayerId expected) LCFS_EXCLUDES(mu_);
  // Places and writes all data.
  Status flush() LCFS_EXCLUDES(mu_) { return flush_now(std::nullopt); }
  // Everything a checkpoint needs.  The layer stays writable, in the next generation.
  Result<Handover> hand_over() LCFS_EXCLUDES(mu_);
  // The pages of a batch are on the device.
  void written(IoBatch const& batch) LCFS_EXCLUDES(mu_);
  // Removes inodes that had no name when the layer was last in use.
  Status remove_orphans() LCFS_EXCLUDES(mu_);
  // The layer is being removed from the store: forgets everything that no checkpoint has.
  void discard() LCFS_EXCLUDES(mu_);
  // A commit: hands over all that the layer is.  The object becomes its empty clone, layer `id`.
  Result<Handover> split(LayerId id) LCFS_EXCLUDES(mu_);
  // The layer was removed from the store, but its object is in use and stays writable.  base: its
  // parent, which must stay readable as long.
  void removed(std::shared_ptr<LayerImpl> base) LCFS_EXCLUDES(mu_);
  void set_quota(std::uint64_t blocks) { quota_.set_limit(blocks); }
  [[nodiscard]] LayerSpace space_now() const LCFS_EXCLUDES(mu_);
  [[nodiscard]] LayerIo io() const;
  // A sealed root pointer to clone, and the counters that go with it.
  [[nodiscard]] LayerInfo snapshot(LayerInfo info) const LCFS_EXCLUDES(mu_);

 private:
  // A directory entry, and the attributes of its inode if they were asked for.
  struct Listed {
    DirEntry entry{};
    Attr attr{};
  };

  // The frame around every changing operation ----------------------- layer_change.h, layer_meta.cc
  Status check_changeable() const LCFS_REQUIRES(mu_);
  Status begin_change(Urgency urgency) LCFS_REQUIRES(mu_);
  template <class T>
  Result<T> end_change(Result<T> result, std::uint64_t changes_before) LCFS_REQUIRES(mu_);
  template <class Op>
  auto change(std::uint64_t blocks, Urgency urgency, Op const& op) LCFS_EXCLUDES(mu_);
  // Reserves space for an operation, within the layer's quota.
  Result<Reservation> reserve(std::uint64_t blocks, Urgency urgency);
  // Writes changed nodes early, if they are many: memory stays bounded however much one generation
  // changes (I7).
  Status spill_if_large() LCFS_REQUIRES(mu_);

  // Inodes -------------------------------------------------------------------------- layer_meta.cc
  Result<InodeInfo> load(Inode inode) const LCFS_REQUIRES_SHARED(mu_);  // ENOENT, ESTALE
  Result<InodeInfo> load_near(Tree::Cursor& cursor, Inode inode) const LCFS_REQUIRES_SHARED(mu_);
  Result<InodeInfo> load_dir(Inode inode) const LCFS_REQUIRES_SHARED(mu_);  // ENOTDIR too
  // Removes an inode without names: its records, its blocks, what is in memory of it.
  Status remove_inode(Inode inode) LCFS_REQUIRES(mu_);
  struct Privileges {
    InodeInfo info{};
    std::uint32_t bits = 0;           // S_ISUID, S_ISGID
    std::optional<Key> capability{};  // security.capability
    [[nodiscard]] bool any() const { return bits != 0 || capability; }
  };
  Result<Privileges> privileges(Inode inode) const LCFS_REQUIRES_SHARED(mu_);

  // Inodes without names ------------------------------------------------------------ layer_open.cc
  enum class Keeper : std::uint8_t { kOpen, kHeld };
  Status unlinked(Inode inode, InodeInfo& info) LCFS_REQUIRES(mu_);  // nlink just became 0
  // Would the inode stay if its last name went?
  [[nodiscard]] bool kept_alive(Inode inode) const LCFS_REQUIRES_SHARED(mu_);
  Status let_go(Inode inode, Keeper keeper) LCFS_EXCLUDES(mu_);
  Status let_go_locked(Inode inode, Keeper keeper) LCFS_REQUIRES(mu_);
  // Returns when nothing is held, or nothing goes for some time: 0.3 s, then less for a while.
  void await_forgotten() LCFS_EXCLUDES(mu_);
  void forget_left_over() LCFS_EXCLUDES(mu_);  // what forget() had no room to remove

  // Names -------------------------------------------------------------------------- layer_names.cc
  [[nodiscard]] Urgency removal(Inode directory, std::string_view name) const LCFS_EXCLUDES(mu_);
  Result<Attr> new_inode(Inode directory, std::string_view name, NewNode const& node,
                         std::string_view target) LCFS_REQUIRES(mu_);
  Result<Attr> do_tmpfile(NewNode const& node) LCFS_REQUIRES(mu_);
  Result<Attr> do_link(Inode inode, Inode directory, std::string_view name) LCFS_REQUIRES(mu_);
  Status do_unlink(Inode directory, std::string_view name, bool want_directory) LCFS_REQUIRES(mu_);
  Status do_rename(Inode from, std::string_view name, Inode to, std::string_view new_name,
                   Rename how, Owner whiteout) LCFS_REQUIRES(mu_);
  Status list(Inode directory, std::uint64_t cookie, std::size_t most, bool attrs,
              std::vector<Listed>& into) const LCFS_EXCLUDES(mu_);
  template <class Take>
  Status walk(Inode directory, std::uint64_t cookie, bool attrs, Take const& take) const
      LCFS_EXCLUDES(mu_);

  // Extended attributes ------------------------------------------------------------ layer_xattr.cc
  static Status check_new_xattrs(NewNode const& node);
  // Worst case of a new inode with these.
  static std::uint64_t new_node_blocks(NewNode const& node);
  Status put_new_xattrs(Inode inode, NewNode const& node) LCFS_REQUIRES(mu_);

  // Data ------------------------------------------ layer_read.cc, layer_data.cc, layer_allocate.cc
  Status count_damage(Status result) const;
  Status do_write(Inode inode, std::uint64_t offset, std::span<std::byte const> data)
      LCFS_REQUIRES(mu_);
  // Extents and pages get other numbers (collapse, insert).
  struct Move {
    std::uint64_t from = 0, to = 0;  // what is at byte `from` and behind goes to `to` and behind
    std::vector<std::uint64_t> batches{};  // first offsets of bounded stretches of records
  };
  Status do_allocate(Inode inode, Allocate how, std::uint64_t offset, std::uint64_t length)
      LCFS_REQUIRES(mu_);
  Status collapse(Inode inode, InodeInfo& info, std::uint64_t offset, std::uint64_t length,
                  Reservation& pays) LCFS_REQUIRES(mu_);
  Status insert(Inode inode, InodeInfo& info, std::uint64_t offset, std::uint64_t length,
                Reservation& pays) LCFS_REQUIRES(mu_);
  Result<Move> plan_move(Inode inode, std::uint64_t from, std::uint64_t to, Urgency urgency,
                         Reservation& pays) LCFS_REQUIRES(mu_);
  Status carry_out(Inode inode, Move const& move) LCFS_REQUIRES(mu_);

  // Places and writes the data of one file, or of all.
  Status flush_now(std::optional<Inode> inode) LCFS_EXCLUDES(mu_);
  Status place(std::optional<Inode> inode, IoBatch& batch) LCFS_REQUIRES(mu_);
  Status write_out(IoBatch const& batch, std::uint64_t ticket, Status placed) LCFS_EXCLUDES(mu_);
  Status fill(Handover& h) LCFS_REQUIRES(mu_);

  // Copying ------------------------------------------------------------------------- layer_copy.cc
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
  Result<std::uint64_t> do_map_shared(Inode inode, std::uint64_t to, std::uint64_t shift,
                                      Stretch const& stretch) LCFS_REQUIRES(mu_);
  Result<std::uint64_t> copy_bytes(LayerImpl& source, Inode from, std::uint64_t at, Inode inode,
                                   std::uint64_t to, std::uint64_t length) LCFS_EXCLUDES(mu_);
  [[nodiscard]] std::vector<LayerId> ancestors() const LCFS_EXCLUDES(mu_);

  StoreImpl& store_;
  DataReader const reader_;
  std::atomic<LayerId> id_;  // changed under mu_, by split()
  Inode const root_inode_;
  std::atomic<bool> frozen_;
  Quota quota_;
  std::atomic<std::uint64_t> reads_{0}, read_bytes_{0}, writes_{0},
      written_bytes_{0};                // statistics
  std::atomic<std::uint64_t> held_{0};  // how many inodes are held; changed under mu_

  mutable SharedMutex mu_ LCFS_LEVEL(layer);
  LayerTree tree_ LCFS_GUARDED_BY(mu_);
  DirtyFiles files_ LCFS_GUARDED_BY(mu_);
  OpenFiles open_ LCFS_GUARDED_BY(mu_);
  bool dirty_ LCFS_GUARDED_BY(mu_) = false;  // in the store's dirty set
  bool discarded_ LCFS_GUARDED_BY(mu_) = false;
  bool removed_ LCFS_GUARDED_BY(mu_) = false;
  std::shared_ptr<LayerImpl> base_ LCFS_GUARDED_BY(mu_);  // of a removed layer in use
  std::vector<NodeRef> sealed_
      LCFS_GUARDED_BY(mu_);  // sealed since the last hand-over, not yet given to the store
  std::vector<Inode> left_over_ LCFS_GUARDED_BY(mu_);
  std::atomic<std::uint64_t> going_{0};  // calls of forget() that are under way
  // await_forgotten() waits little: since the epoch of that clock.
  std::atomic<std::chrono::steady_clock::duration> vain_until_{};
};

}  // namespace lcfs
