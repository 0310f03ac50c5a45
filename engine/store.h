// SPDX-License-Identifier: Apache-2.0
// A store: layers and images on one device.  The engine's front door.
//
// Threads: any function from any thread, except that the caller must not destroy a Store while
// others use it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "engine/layer.h"
#include "engine/types.h"

namespace lcfs {

struct FormatOptions {
  std::uint64_t size = 0;      // bytes; 0: the device's size.  At least kMinStoreBlocks blocks
  std::string label{};         // at most 64 bytes of UTF-8
  std::optional<Uuid> uuid{};  // random if not given
};

struct OpenOptions {
  bool read_only = false;                  // nothing is ever written
  std::uint64_t node_cache = 16ull << 20;  // bytes of clean nodes kept
  std::uint64_t read_ahead = 8ull << 20;   // bytes for the neighbours of small files that were read
  std::uint64_t dirty_data = 128ull << 20;      // bytes of unflushed file data, whole store
  std::uint64_t dirty_data_file = 32ull << 20;  // the same for one file
  // Bytes of unwritten nodes per layer before they are written early.
  std::uint64_t dirty_nodes = 16ull << 20;
  bool verify_data = true;  // check data checksums on every read
  bool discard = true;      // discard freed space on the device
  // Checkpoints to keep, whatever the store's own setting (Store::set_keep).
  std::optional<std::uint32_t> keep{};
  std::uint64_t at = 0;  // a kept checkpoint: the store as it was then, read-only; 0: as it is
};

// What a name means: exactly one of the two is not 0.
struct Target {
  LayerId layer = 0;
  ImageId image = 0;
};

enum class Remove : std::uint8_t { kUnused, kLazy };

struct LayerOptions {
  std::uint64_t quota_blocks = 0;  // see Store::set_quota()
  Owner root{};                    // of a base: whose its root directory is
};

// Hears of changes of layers: one call at a time, in the order of the changes, before the changing
// function returns, when the change is durable (a freeze: when it is visible).  No engine lock is
// held, so callbacks may use the store; they hear of their own changes after they have returned.
// The caller of a changing function must not hold a lock that a callback takes: the callback may
// run in another thread's call, for which this one waits.
class LayerEvents {
 public:
  virtual ~LayerEvents() = default;
  virtual void created(
      LayerInfo const& layer) = 0;  // also by an import, and of an anonymous layer that got a name
  virtual void removed(LayerInfo const& layer) = 0;  // as it was; also with an image.  A lazy
                                                     // removal: when the name goes
  virtual void renamed(LayerInfo const& before, LayerInfo const& after) = 0;
  virtual void committed(LayerInfo const& frozen, LayerInfo const& running) = 0;
  virtual void changed(LayerInfo const& layer) = 0;  // frozen, or another quota
};

struct NewImage;        // engine/import.h
struct CommittedImage;  // engine/import.h

// What the tar of a layer that was made here hashes to.
struct LayerDigests {
  LayerId layer = 0;
  Digest diff_id{}, chain_id{};
  std::uint64_t diff_bytes = 0;
  bool name_by_chain = false;  // name it as an import would, if that name is free
};

struct StoreImpl;

// A checkpoint that is kept, and what it costs.
struct HistoryEntry {
  KeptCheckpoint checkpoint{};
  // What dropping it frees, once all older ones are dropped.
  std::uint64_t held_blocks = 0;
};

// What was in the store at a kept checkpoint.
struct KeptContents {
  std::vector<LayerInfo> layers{};     // in id order, without dying ones
  std::vector<ImageDetails> images{};  // in id order
};

// While it lives, nothing that the checkpoint in force at its making (or a later one) references is
// overwritten, so the device can be read beneath the running store.  Blocks freed meanwhile stay
// pending: a pin costs space, and operations may fail with kNoSpace for lack of it.  The first
// checkpoint after its end frees them.  It must end before the store does.
class CheckpointPin {
 public:
  CheckpointPin() = default;
  ~CheckpointPin() { reset(); }
  CheckpointPin(CheckpointPin&& o) noexcept;
  CheckpointPin& operator=(CheckpointPin&& o) noexcept;
  [[nodiscard]] std::uint64_t generation() const { return generation_; }  // 0: pins nothing
  void reset();

 private:
  friend class Store;
  CheckpointPin(StoreImpl* store, std::uint64_t generation)
      : store_(store), generation_(generation) {}
  StoreImpl* store_ = nullptr;
  std::uint64_t generation_ = 0;
};

// Where all blocks are at one moment: the total agrees with what the layers own (I5).
struct SpaceUse {
  SpaceReport total{};
  // In id order, without dying ones; as of their last hand-over to a checkpoint.
  std::vector<LayerInfo> layers{};
};

class Store {
 public:
  // Writes an empty store over whatever the device holds; the caller has made sure that nobody
  // needs it.  Durable when it returns.
  static Status format(Device& device, FormatOptions const& options);
  // Errors: kInvalid "not an lcfs store", kCorrupt, kUnsupported, kReadOnly (features that this
  // lcfs can only read).
  static Result<std::unique_ptr<Store>> open(std::unique_ptr<Device> device,
                                             OpenOptions const& options);

  ~Store();  // like a crash: what is not checkpointed is gone; close() first

  // Makes a checkpoint and ends all use: Layer objects that are still held are of no more use, and
  // must be released before the Store is destroyed.
  Status close();
  // Everything done before the call is durable when it returns.  Callers that wait share one
  // checkpoint.
  Status checkpoint();

  [[nodiscard]] SuperblockInfo superblock() const;  // of the newest durable checkpoint
  [[nodiscard]] SpaceReport space() const;
  Result<SpaceUse> space_use() const;  // changes of layers wait while it reads their records
  [[nodiscard]] Device& device();
  [[nodiscard]] bool read_only() const;  // opened so: nothing is ever written
  // kReadOnly: opened so, or the store went read-only (with what failure() is).
  [[nodiscard]] Status check_writable() const;
  // Why the store went read-only (a failed checkpoint), if it did.
  [[nodiscard]] std::optional<Error> failure() const;

  // Layers.  Callbacks return false to stop; they must not call back into the store.
  // In id order, from `from` on; dying ones left out.
  Status for_each_layer(std::function<bool(LayerInfo const&)> const& take, LayerId from = 1) const;
  Result<LayerInfo> layer_info(LayerId id) const;
  // The layer of exactly this name.  kNotFound; images and digests are resolve()'s.
  Result<LayerInfo> find_layer(std::string_view name) const;
  // The files of a layer.  The same object for the same layer while anybody holds it.
  Result<std::shared_ptr<Layer>> layer(LayerId id);
  // Creates a writable layer, an O(1) clone of `parent` (0: an empty tree).  Freezes a parent that
  // is writable.
  Result<LayerId> create_layer(std::string_view name, LayerId parent,
                               LayerOptions const& options = {});
  Status freeze_layer(LayerId id);
  // Freezes the present content of the writable layer `running` as a layer called `name`. `running`
  // stays writable: under a new id, which is returned, with its name, serve_id, quota, its Layer
  // object and all that is open in it.  The frozen layer has the old id (it owns the blocks), a
  // serve_id of its own, no quota, and is the new one's parent.  What was written before the call
  // is in both. Files that are open but have no name are in both too, in the frozen one for good.
  // Costs what flushing the unwritten data costs, whatever the size of the tree.  Operations on
  // `running` go on meanwhile; none fails.  Durable. kNotFound, kReadOnly (it is frozen), kExists,
  // kInvalid (name).
  Result<LayerId> commit_layer(LayerId running, std::string_view name);
  // The same, then make_image() with what `describe` returns for the frozen layer, which exists by
  // then.  Both are one operation of the history, so that going back undoes both.  If making the
  // image fails (or power fails first), the layer stays committed.
  Result<LayerId> commit_layer(LayerId running, std::string_view name,
                               std::function<Result<CommittedImage>()> const& describe);
  // Also gives an anonymous layer a name again.  kNotFound, kExists, kInvalid (name).  Durable.
  Status rename_layer(LayerId id, std::string_view new_name);
  // kBusy if it has children or an image is based on it; with kLazy it only loses its name then
  // (LayerInfo::anonymous) and goes together with the last of those.  Anonymous ancestors without
  // other children go along.  Its name is gone at once, durably.  A Layer object that is in
  // use goes on working, also for writing, until the last pointer to it is released (or close());
  // then its blocks come back with the next checkpoints.  After a crash they come back when the
  // store is opened. Removed layers in use are not listed; their blocks still count among
  // SpaceReport::layers.
  Status remove_layer(LayerId id, Remove how = Remove::kUnused);
  // Limits the blocks that the writable layer may own, reservations of its operations and dirty
  // data included; 0: no limit.  Operations beyond it fail with kNoSpace and EDQUOT; removing
  // always works.  Reservations are worst cases, so the last MiB below the quota may not be usable.
  // A quota below what the layer owns already stops it from growing.  kReadOnly (frozen).  Durable.
  Status set_quota(LayerId id, std::uint64_t blocks);
  // Live numbers, also of a removed layer in use.
  Result<LayerSpace> layer_space(LayerId id) const;
  // Since its object was made; zeroes if it has none.
  [[nodiscard]] LayerIo layer_io(LayerId id) const;
  // The digest of a frozen layer's tree, if it was recorded (verify/tree_digest.h computes it).
  Result<std::optional<Digest>> tree_digest(LayerId id) const;
  Status set_tree_digest(
      LayerId id, Digest const& digest);  // kInvalid (open).  Durable with the next checkpoint
  std::optional<LayerId> find_chain(
      Digest const& chain_id) const;  // frozen layer with this chain id

  // Sets who hears of changes of layers from now on; null: nobody.  Not while changes are under
  // way.
  void set_events(LayerEvents* events);

  // Makes the store larger, to `new_size` bytes or, 0, to what its device has.  A file is made
  // longer first; a block device has to be. kInvalid: smaller than it is.  kUnsupported: the block
  // device is too small.  Durable.
  Status grow(std::uint64_t new_size);

  // Keeps the newest durable checkpoint readable on the device.
  [[nodiscard]] CheckpointPin pin();

  // History (doc/design/history.md).  Every operation on layers and images keeps the checkpoint
  // before it; the oldest are dropped, when there are more than the store keeps, when they hold
  // more than 1/8 of it and more than is free, and before any operation fails with kNoSpace.
  [[nodiscard]] std::vector<HistoryEntry> history() const;  // oldest first
  // kNotFound: no such kept checkpoint.
  Result<KeptContents> kept_contents(std::uint64_t generation) const;
  // Makes the store what it was at a kept checkpoint, and keeps the present state in turn.  Ids
  // given out since are not given out again.  Nobody may use the store meanwhile: kBusy if a Layer
  // object is held.  kNotFound.  Durable.
  Status go_back(std::uint64_t generation);
  // Restores the removed layer that was called `name` at a kept checkpoint, as it was there, with
  // those below it that are removed too; under the name `as`, unless that is empty.  `generation`
  // 0: the newest checkpoint that has it.  Returns what came back, base first. kNotFound; kExists
  // (it is there, or its name or chain id is taken); kBusy (still in use); kNoSpace.  Durable.
  Result<std::vector<LayerInfo>> bring_back(std::string_view name, std::uint64_t generation,
                                            std::string_view as);
  // Sets how many checkpoints the store keeps, from now on; at most kMaxKept.  Durable.
  Status set_keep(std::uint32_t count);
  [[nodiscard]] std::uint32_t keep() const;
  // Drops the oldest until `left` are left; their space is free when it returns.
  Status drop_history(std::size_t left);

  struct Stats {
    std::uint64_t cache_bytes = 0, cache_limit = 0, cache_hits = 0,
                  cache_misses = 0;  // of tree nodes
    std::uint64_t dirty_bytes = 0;   // file data that has no place yet
    std::uint64_t device_reads = 0, device_read_bytes = 0, device_writes = 0,
                  device_written_bytes = 0, device_flushes = 0;
    std::uint64_t checkpoints = 0, checkpoint_ns = 0, checkpoint_max_ns = 0;
    std::uint64_t checksum_failures = 0;  // nodes and data
  };
  [[nodiscard]] Stats stats()
      const;  // since the store was opened; counters are read one by one, not at one instant
  void set_node_cache_limit(std::uint64_t bytes);
  // Forgets all clean nodes, to free memory.
  void drop_caches();

  // Images
  Status for_each_image(std::function<bool(ImageDetails const&)> const& take) const;
  Result<ImageDetails> image(ImageId id) const;
  Result<std::string> image_document(ImageId id,
                                     BlobKind kind) const;  // raw bytes; kNotFound if it has none
  // The image's layers, base first.
  Result<std::vector<LayerInfo>> image_layers(ImageId id) const;
  // Adds these names to the image; a name of another image moves.  kExists: a layer has the name.
  // Durable.
  Status tag_image(ImageId id, std::vector<std::string> const& names);
  // Makes an image of layers of this store: the top must be frozen, and `digests` has those of its
  // layers that have none recorded.  All or nothing, durable.  kExists (name), kInvalid.
  Status make_image(NewImage const& image, std::vector<LayerDigests> const& digests);
  // Takes the name away.  With the last name the image goes, and with it its layers that have no
  // other child and no name of a user's (named_by_chain()).  Without a name (""): the image with
  // all its names.  Durable.
  Status remove_image(ImageId id, std::string_view name);

  // Names: a layer's name; an image's name (also without ":latest", and without "docker.io/",
  // "docker.io/library/" or "localhost/" in front); "sha256:..." or hex digits, at least 4, that
  // begin exactly one chain id or image id, or else one diff_id; "@" and the id of a layer.
  // kNotFound with similar names, or kInvalid "ambiguous: ..." with the candidates.
  Result<Target> resolve(std::string_view name) const;
  Result<LayerId> resolve_layer(std::string_view name) const;  // an image means its top layer
  Result<ImageId> resolve_image(std::string_view name) const;

  // Layer names: 1..255 bytes of [A-Za-z0-9][A-Za-z0-9._-]*, but not 12 to 64 hex digits, which
  // would be taken for a digest (layers of an import have such names).
  static Status check_layer_name(std::string_view name);

  explicit Store(std::unique_ptr<StoreImpl> impl);

 private:
  friend StoreImpl& inside(Store& store);  // engine/store/store_impl.h: for the engine's rooms
  // `kept`: the generation that the history has for it; 0: none.
  Result<LayerId> commit_layer(LayerId running, std::string_view name, std::uint64_t& kept);
  // `joins`: that of the operation which this is part of; 0: one of its own.
  Status make_image(NewImage const& image, std::vector<LayerDigests> const& digests,
                    std::uint64_t joins);

  std::unique_ptr<StoreImpl> impl_;
};

}  // namespace lcfs
