// SPDX-License-Identifier: Apache-2.0
// The inside of a Store, for the engine's own files.
//
// Locks, in the order in which they may be taken:
//   mu           the store tree, counters, layer records, names, images ("structure").  Held
//   exclusively by whatever changes
//                the set of layers or images, and by a checkpoint while it takes over the dirty
//                sets; never across data I/O.
//   LayerImpl::mu_
//   layers_mu    the table of layers in memory
//   dirty_mu     which layers changed since the last hand-over, and the generation being built
//   writeback_mu nodes sealed and waiting to be written
//   flush_mu     data writes under way outside checkpoints
//   gone_mu      layers whose last object went; taken by ~LayerImpl, under any of the above
//   SpaceMap, NodeCache: their own, innermost
// events_mu orders what listeners are told: the queue is filled under mu, and emptied, by one
// thread at a time, under no other lock. cp_mu orders checkpoints; no other lock is waited for
// while it is held.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/layer_impl.h"
#include "engine/metered_device.h"
#include "engine/node_cache.h"
#include "engine/owner_space.h"
#include "engine/read_ahead.h"
#include "engine/store.h"
#include "engine/store_walk.h"
#include "engine/sync.h"
#include "engine/tree.h"

namespace lcfs {

struct LayerEvent {
  enum Kind : std::uint8_t { kCreated, kRemoved, kRenamed, kCommitted, kChanged };
  Kind kind = kChanged;
  std::uint64_t number = 0;
  LayerInfo one{};
  LayerInfo two{};  // kRenamed: after; kCommitted: the running layer
};

struct StoreImpl {
  StoreImpl(std::unique_ptr<Device> device_in, OpenOptions const& options_in,
            SuperblockInfo const& super_in, std::vector<Extent> const& used);
  ~StoreImpl();

  // Constant after construction
  std::unique_ptr<MeteredDevice> const meter;
  std::unique_ptr<ReadAheadDevice> const ahead;  // on *meter
  Device& device;                                // *ahead
  OpenOptions const options;
  Uuid const uuid;
  std::array<std::uint8_t, 16> const hash_seed;

  // Lock themselves
  NodeCache cache;
  SpaceMap space;
  std::atomic<std::uint64_t> next_id;
  std::atomic<std::uint64_t> next_inode;
  std::atomic<std::uint64_t> dirty_bytes{0};  // unflushed file data of all layers
  std::atomic<bool> failed{false};
  std::atomic<std::uint32_t> keep_setting{0};  // as the superblock has it: 0, or 1 + how many
  std::atomic<std::uint64_t> frees{
      0};  // checkpoints that began to give freed blocks back: readers without a lock compare
  std::atomic<std::uint64_t> checkpoints{0}, checkpoint_ns{0}, checkpoint_max_ns{0},
      data_failures{0};  // statistics

  Mutex grow_mu;  // one at a time; taken first of all

  mutable SharedMutex mu;
  OwnerSpace store_space LCFS_GUARDED_BY(mu);
  Tree tree LCFS_GUARDED_BY(mu);
  Reservation structure_promise LCFS_GUARDED_BY(mu);  // of the change under way
  std::uint64_t store_tree_blocks LCFS_GUARDED_BY(mu) = 0;
  std::uint64_t layer_blocks LCFS_GUARDED_BY(mu) = 0;
  std::uint64_t layer_count LCFS_GUARDED_BY(mu) = 0;
  std::uint64_t image_count LCFS_GUARDED_BY(mu) = 0;
  std::vector<LayerId> dying LCFS_GUARDED_BY(mu);  // layers whose runs are being given back
  bool structure_dirty LCFS_GUARDED_BY(mu) = false;
  // Removed while their objects were in use: their records say dying, but they go on, and their
  // runs follow them, until the objects go.
  std::unordered_map<LayerId, std::weak_ptr<LayerImpl>> removed_in_use LCFS_GUARDED_BY(mu);
  std::vector<KeptCheckpoint> kept LCFS_GUARDED_BY(mu);  // oldest first; as the store tree has them
  std::vector<KeptCheckpoint> lost
      LCFS_GUARDED_BY(mu);  // that can't be read: their records go with the next checkpoint
  std::vector<Handover> early
      LCFS_GUARDED_BY(mu);  // handed over by commits since the last checkpoint, which writes it

  mutable Mutex layers_mu;
  std::unordered_map<LayerId, std::weak_ptr<LayerImpl>> layers LCFS_GUARDED_BY(layers_mu);
  std::size_t sweep_at LCFS_GUARDED_BY(layers_mu) = 1024;

  // Frozen by a commit whose data is not on the device yet: the running layer's object knows it,
  // others must wait.
  std::unordered_set<LayerId> unwritten LCFS_GUARDED_BY(layers_mu);

  mutable Mutex gone_mu;
  struct Gone {
    LayerId id = 0;
    std::shared_ptr<LayerImpl>
        base{};  // what it held; let go outside its destructor, so that nothing recurses
  };
  std::vector<Gone> released LCFS_GUARDED_BY(gone_mu);

  Mutex events_mu;
  std::condition_variable events_cv;
  LayerEvents* listener LCFS_GUARDED_BY(events_mu) = nullptr;
  std::deque<LayerEvent> events LCFS_GUARDED_BY(events_mu);
  std::uint64_t noted LCFS_GUARDED_BY(events_mu) = 0;
  std::optional<std::thread::id> telling LCFS_GUARDED_BY(events_mu);

  Mutex dirty_mu;
  std::uint64_t generation LCFS_GUARDED_BY(dirty_mu);  // the one being built
  std::vector<std::shared_ptr<LayerImpl>> dirty_layers LCFS_GUARDED_BY(dirty_mu);

  Mutex writeback_mu;
  std::vector<NodeRef> writeback LCFS_GUARDED_BY(writeback_mu);

  Mutex flush_mu;
  std::condition_variable flush_cv;
  std::set<std::uint64_t> flushes LCFS_GUARDED_BY(flush_mu);  // tickets of data writes under way
  std::uint64_t next_flush LCFS_GUARDED_BY(flush_mu) = 0;

  Mutex cp_mu;
  std::condition_variable cp_cv;
  bool cp_running LCFS_GUARDED_BY(cp_mu) = false;
  std::uint64_t cp_requested LCFS_GUARDED_BY(cp_mu) = 0;
  std::uint64_t cp_done LCFS_GUARDED_BY(cp_mu) = 0;
  Status cp_result LCFS_GUARDED_BY(cp_mu);

  Mutex room_mu;
  std::optional<SpaceMap::Standing> room_made
      LCFS_GUARDED_BY(room_mu);  // after the last make_room()

  mutable Mutex super_mu;
  SuperblockInfo super LCFS_GUARDED_BY(super_mu);          // newest durable
  std::optional<Error> failure LCFS_GUARDED_BY(super_mu);  // why `failed`

  // checkpoint.cc
  // ---------------------------------------------------------------------------------------------
  Status checkpoint(bool force);
  // Frees what can be freed for somebody who met kNoSpace: gives up history, as much as is worth
  // it, places dirty data (its promises are generous) and turns pending blocks into free ones.  For
  // ordinary work nothing is done if that would be in vain, as it was just before: writers of a
  // full store would keep the device busy with checkpoints.
  Status make_room(Urgency urgency = Urgency::kEmergency);
  Status settle();  // the latter two alone
  // History goes before it is in the way of `blocks` blocks.
  Status make_slack(std::uint64_t blocks);
  Status write_nodes(std::vector<NodeRef> nodes);  // sealed ones, any order; then unpins them
  Status write_data(IoBatch const& batch);
  // The superblock in force once more, where it is, but without its list of written blocks: they
  // are durable, and if one is damaged later that must not pass for a checkpoint that was cut off.
  // Not flushed.  Nothing else may go on meanwhile.
  Status confirm();
  Status write_superblock(SuperblockInfo const& info);  // into its slot
  void queue_nodes(std::vector<NodeRef> nodes);
  std::uint64_t begin_flush();
  void end_flush(std::uint64_t ticket);
  // The store goes read-only; the last checkpoint stands.  Returns the error for the caller.
  Error fail(Error why);
  Status check_writable() const;

  // store.cc
  // --------------------------------------------------------------------------------------------------
  Result<LayerInfo> layer_record(LayerId id) const LCFS_REQUIRES_SHARED(mu);
  Result<LayerInfo> live_record(LayerId id) const
      LCFS_REQUIRES_SHARED(mu);  // kNotFound too if it is dying
  Status put_layer_record(LayerInfo const& info) LCFS_REQUIRES(mu);
  Result<std::shared_ptr<LayerImpl>> layer_object(LayerInfo const& info);
  // Before the lock for it is taken: room for the checkpoint that makes a change of the store tree
  // durable, if it can be had.
  Status make_ready(Urgency urgency) LCFS_EXCLUDES(mu);
  // Before a change of the store tree; after it a failure half-way is fatal (fail()).  blocks: what
  // it may add beyond a few nodes.
  Status begin_structure_change(Urgency urgency = Urgency::kOrdinary, std::uint64_t blocks = 0)
      LCFS_REQUIRES(mu);
  template <class T>
  Result<T> end_structure_change(Result<T> result, std::uint64_t changes_before) LCFS_REQUIRES(mu) {
    store_space.set_payer(nullptr);
    structure_promise.reset();
    count_store_tree();
    if (!result && tree.changes() != changes_before) return fail(std::move(result).error());
    return result;
  }

  void count_store_tree() LCFS_REQUIRES(mu);  // as it is now

  // events.cc
  // -------------------------------------------------------------------------------------------------
  void note(LayerEvent::Kind kind, LayerInfo const& one, LayerInfo const& two = {})
      LCFS_EXCLUDES(events_mu);
  std::uint64_t last_noted() LCFS_EXCLUDES(events_mu);
  // Until all that was noted up to number `until` is told (not from within a callback: then its
  // caller goes on with it).  What a thread noted, and all before, is durable once its own
  // checkpoint is.
  void tell(std::uint64_t until) LCFS_EXCLUDES(mu, events_mu);

  // names.cc
  // --------------------------------------------------------------------------------------------------
  struct NameHit {
    Key key{};
    LayerId id = 0;
    NameType type = NameType::kLayer;
  };
  Result<std::optional<NameHit>> find_name(std::string_view name) const LCFS_REQUIRES_SHARED(mu);
  Status put_name(std::string_view name, std::uint64_t id, NameType type)
      LCFS_REQUIRES(mu);  // kExists
  Status erase_name(std::string_view name) LCFS_REQUIRES(mu);
  // A new layer may be called so: no layer is, and no image can be (kExists).
  Status check_free_name(std::string_view name) const LCFS_REQUIRES_SHARED(mu);
  // What `name` means if it is a name, whole or as registry clients shorten it.
  Result<std::optional<NameHit>> find_any_name(std::string_view name,
                                               std::optional<NameType> type = {}) const
      LCFS_REQUIRES_SHARED(mu);
  // The names most like `name`, the best first; no more than a few.
  Result<std::vector<std::string>> similar_names(std::string_view name) const
      LCFS_REQUIRES_SHARED(mu);
  Result<std::optional<NameHit>> find_digest(Digest const& digest, NameType type) const
      LCFS_REQUIRES_SHARED(mu);
  Status put_digest(Digest const& digest, std::uint64_t id, NameType type) LCFS_REQUIRES(mu);
  Status erase_digest(Digest const& digest, NameType type) LCFS_REQUIRES(mu);

  // layers.cc, images.cc, commit.cc
  // -------------------------------------------------------------------------------------- A
  // handover's counters, runs and, unless it is removed, root go into the layer's record; what it
  // freed goes to `freed`. False: the layer is gone, and the handover with it.
  Result<bool> take_over(Handover& h, std::vector<Extent>& freed) LCFS_REQUIRES(mu);
  // Frozen data that a commit left to a checkpoint is on the device when it returns.
  Status wait_written(LayerId id) LCFS_EXCLUDES(mu);
  bool is_unwritten(LayerId id) const LCFS_EXCLUDES(layers_mu);
  Status freeze(LayerId id) LCFS_EXCLUDES(mu);  // not durable yet
  std::shared_ptr<LayerImpl> known_object(LayerId id) const
      LCFS_EXCLUDES(layers_mu);  // null: nobody has it
  // Layers whose last object went since: their runs may be given back.
  void bury() LCFS_REQUIRES(mu);
  // Takes the layer's name and tree away; its runs follow in reclaim().  Anonymous ancestors that
  // nothing else stands on go along. Returns the first ancestor that stays; 0: none.
  Result<LayerId> remove_layer_locked(LayerInfo info) LCFS_REQUIRES(mu);
  // Only that one; `parent`: its record, not yet written, which has a child less.
  Status remove_one_locked(LayerInfo const& info, LayerInfo const& parent) LCFS_REQUIRES(mu);
  Status make_anonymous(LayerInfo info) LCFS_REQUIRES(mu);
  Status remove_image_locked(ImageId id, std::string_view name) LCFS_REQUIRES(mu);
  Status put_image_locked(struct NewImage const& image) LCFS_REQUIRES(mu);
  static std::uint64_t document_blocks(
      struct NewImage const& image);  // what its documents and names add to the store tree
  Status check_image_names(std::vector<std::string> const& names) const LCFS_REQUIRES_SHARED(mu);
  Status check_no_layer_means(std::vector<std::string> const& names) const
      LCFS_REQUIRES_SHARED(mu);  // kExists
  // Writes the record, and gives the image those of the names that it does not have.
  Status name_image_locked(ImageInfo info, std::vector<std::string> const& names) LCFS_REQUIRES(mu);
  Status drop_image_name(ImageId id, std::string_view name)
      LCFS_REQUIRES(mu);  // its record is the caller's to change
  Status put_layer_digests(LayerDigests const& digests) LCFS_REQUIRES(mu);
  // Gives back a bounded number of runs of dying layers; the blocks go to `freed`.
  Status reclaim(std::vector<Extent>& freed) LCFS_REQUIRES(mu);
  Result<ImageDetails> image_details(ImageId id) const LCFS_REQUIRES_SHARED(mu);

  // skeleton_store.cc
  // -----------------------------------------------------------------------------------------
  Status put_skeleton(SkeletonInfo const& info, std::vector<struct SkeletonExtent> const& extents)
      LCFS_REQUIRES(mu);
  Status erase_skeleton(LayerId id) LCFS_REQUIRES(mu);

  // history.cc
  // ------------------------------------------------------------------------------------------------
  [[nodiscard]] std::uint32_t keep_limit() const;
  // Part of a change: the newest durable checkpoint is kept, as the one before `what`.  Where space
  // is short, or nothing is to be kept, all that is kept is dropped instead.
  Status keep(std::string_view what) LCFS_REQUIRES(mu);
  // Part of a change that belongs to the one before which checkpoint `joins` was kept: adds to what
  // is said of that.  If something else was done since, or it was dropped, it is keep().
  Status keep_with(std::uint64_t joins, std::string_view more, std::string_view what)
      LCFS_REQUIRES(mu);
  Status say_of_newest(std::string_view between, std::string_view what)
      LCFS_REQUIRES(mu);  // of the newest that is kept
  // Drops the oldest kept ones until `left` are left; their blocks are free when what is being
  // built, and one more, is durable.
  Status give_up(std::size_t left) LCFS_REQUIRES(mu);
  Status give_up(std::size_t left, std::uint64_t building) LCFS_REQUIRES(mu);
  // Part of a checkpoint: history within its bounds.
  Status bound_history(std::uint64_t building) LCFS_REQUIRES(mu);
  Result<KeptCheckpoint> kept_checkpoint(std::uint64_t wanted) const LCFS_REQUIRES_SHARED(mu);
  Status check_unused() LCFS_EXCLUDES(layers_mu);  // kBusy: somebody has a layer
  // All there is is durable, and no checkpoint is under way: so it stays while `mu` is held, but
  // for what layers in use do.
  bool at_rest() LCFS_REQUIRES(mu) LCFS_EXCLUDES(cp_mu);
  // All of the store is as kept checkpoint `to` has it.  Nobody has a layer, and the store is at
  // rest.
  Status go_back(std::uint64_t to) LCFS_REQUIRES(mu);

  // space runs, runs.cc
  // ---------------------------------------------------------------------------------------
  Status add_runs(LayerId id, std::vector<Extent> extents) LCFS_REQUIRES(mu);
  Status remove_runs(LayerId id, std::vector<Extent> extents) LCFS_REQUIRES(mu);
  static std::uint64_t run_blocks(std::size_t runs) {  // what so many runs add to the store tree,
                                                       // whose nodes are half full at least
    constexpr std::uint64_t kRunBytes = 64;            // key, slot and value
    return 2 * kRunBytes * runs / kNodeSize * kNodeBlocks;
  }

 private:
  Status do_checkpoint(bool force);
};

// Calls op(key, value) for every record of [low, high]; op returns Result<bool>: go on?
template <class Op>
Status scan(Tree const& tree, Key const& low, Key const& high, Op const& op) {
  Tree::Cursor c(tree);
  LCFS_TRY(c.seek(low));
  while (c.valid() && c.key() <= high) {
    LCFS_TRY_ASSIGN(bool const more, op(c.key(), c.value()));
    if (!more) return {};
    LCFS_TRY(c.next());
  }
  return {};
}

inline Bytes as_bytes(std::string_view s) { return std::as_bytes(std::span{s.data(), s.size()}); }

}  // namespace lcfs
