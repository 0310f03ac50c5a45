// SPDX-License-Identifier: Apache-2.0
#include "engine/store.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <random>

#include "device/written.h"
#include "engine/kept_tree.h"
#include "engine/store_impl.h"

namespace lcfs {

std::int64_t now_ns() {
  if (char const* fixed = std::getenv("SOURCE_DATE_EPOCH"); fixed != nullptr && *fixed != '\0') {
    char* end = nullptr;
    errno = 0;
    long long const seconds = std::strtoll(fixed, &end, 10);
    if (errno == 0 && *end == '\0' && seconds >= 0 && seconds < 9'000'000'000)
      return seconds * 1'000'000'000;
  }
  timespec ts{};
  clock_gettime(CLOCK_REALTIME, &ts);
  return static_cast<std::int64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec;
}

Timestamp now_timestamp() {
  std::int64_t const ns = now_ns();
  return {ns / 1'000'000'000, static_cast<std::uint32_t>(ns % 1'000'000'000)};
}

namespace {

Uuid random_uuid() {
  std::random_device source;
  Uuid uuid{};
  for (auto& byte : uuid) byte = static_cast<std::uint8_t>(source());
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x40);  // RFC 4122: version 4, random
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

// The superblock in force, and the other one if it is valid too.
struct Slots {
  SuperblockInfo current{};
  std::optional<SuperblockInfo> older{};
};

Result<Slots> read_slots(Device& device) {
  std::optional<SuperblockInfo> found[2];
  std::optional<Error> errors[2];
  AlignedBuffer buffer(kBlockSize);
  for (std::uint32_t slot = 0; slot < 2; ++slot) {
    if (device.size() < (kSlotBlock[slot] + 1) * kBlockSize) {
      errors[slot] = Error{Errc::kInvalid, "not an lcfs store: too small"};
      continue;
    }
    if (auto r = device.read(kSlotBlock[slot] * kBlockSize, buffer.span()); !r) {
      errors[slot] = std::move(r).error();
      continue;
    }
    auto info = parse_superblock(buffer.span(), {slot, device.size(), false});
    if (info) {
      found[slot] = *std::move(info);
    } else {
      errors[slot] = std::move(info).error();
      if (errors[slot]->offset != kNoOffset) errors[slot]->offset += kSlotBlock[slot] * kBlockSize;
    }
  }
  for (auto const& e : errors) {
    // A whole superblock of a newer lcfs: to fall back to the other slot would undo what that lcfs
    // did.
    if (e && e->code == Errc::kUnsupported) {
      Error told = *e;
      told.path = device.name();
      return told;
    }
  }
  if (!found[0] && !found[1]) {
    // Of two bad slots, tell of the one that at least looks like ours.
    bool const second = errors[0]->code == Errc::kInvalid && errors[1]->code != Errc::kInvalid;
    Error e = *errors[second ? 1 : 0];
    e.path = device.name();
    return e;
  }
  Slots slots;
  bool const second = !found[0] || (found[1] && found[1]->generation > found[0]->generation);
  slots.current = *found[second ? 1 : 0];
  slots.older = found[second ? 0 : 1];
  // Cut off in its making: the one before is in force, and the slot holds nothing.
  if (slots.older && !is_whole(device, slots.current))
    slots.current = *std::exchange(slots.older, std::nullopt);
  return slots;
}

// Whoever had the store before may have been killed in the middle of the next checkpoint.  Its
// nodes should not have the number of one that becomes durable: fsck --search could take them for
// it.
constexpr std::uint64_t kGenerationsAtOpening = 2;

// The superblock that a kept checkpoint would have now.
Result<SuperblockInfo> as_of(Device& device, SuperblockInfo super, std::uint64_t generation) {
  TreeWalk walk;
  LCFS_TRY(walk_store_tree(device, super, super.store_root, nullptr, walk));
  for (auto const& k : walk.kept) {
    if (k.generation != generation) continue;
    super.generation = k.generation;
    super.store_root = k.root;
    super.store_tree_blocks = k.store_tree_blocks;
    super.layer_blocks = k.layer_blocks;
    super.layer_count = k.layer_count;
    super.image_count = k.image_count;
    super.written_ns = k.written_ns;
    return super;
  }
  return Error{Errc::kNotFound,
               fmt::format("checkpoint {} is not kept; lcfs log lists those that are", generation),
               ENOENT, device.name(), kNoOffset};
}

}  // namespace

StoreImpl::StoreImpl(std::unique_ptr<Device> device_in, OpenOptions const& options_in,
                     SuperblockInfo const& super_in, std::vector<Extent> const& used)
    : meter(std::make_unique<MeteredDevice>(std::move(device_in))),
      ahead(std::make_unique<ReadAheadDevice>(*meter, options_in.read_ahead)),
      device(*ahead),
      options(options_in),
      uuid(super_in.uuid),
      hash_seed(super_in.hash_seed),
      cache(device, super_in.total_blocks, super_in.uuid, options_in.node_cache),
      space(device, super_in.total_blocks, used),
      next_id(super_in.next_id),
      next_inode(super_in.next_inode),
      store_space(space, 0),
      tree(cache, store_space, super_in.store_root),
      store_tree_blocks(super_in.store_tree_blocks),
      layer_blocks(super_in.layer_blocks),
      layer_count(super_in.layer_count),
      image_count(super_in.image_count),
      generation(super_in.generation + kGenerationsAtOpening),
      super(super_in) {
  if (super_in.keep) keep_setting = *super_in.keep + 1;
  store_space.set_urgency(Urgency::kEmergency);
  space.set_store_tree(store_tree_blocks);
  tree.set_generation(super_in.generation + kGenerationsAtOpening);
}

StoreImpl::~StoreImpl() {
  // What still holds layers lets go while all that they need is there.
  dirty_layers.clear();
  early.clear();
  while (!released.empty()) auto const list = std::exchange(released, {});
}

Store::Store(std::unique_ptr<StoreImpl> impl) : impl_(std::move(impl)) {}
Store::~Store() {
  // Whatever ended its use: the host gets back what was reserved and is free.
  if (impl_ && !impl_->options.read_only) impl_->space.trim();
}

Status Store::format(Device& device, FormatOptions const& options) {
  std::uint64_t const size = options.size != 0 ? options.size : device.size();
  std::uint64_t const blocks = size / kBlockSize;
  if (blocks < kMinStoreBlocks) {
    return Error{Errc::kInvalid,
                 fmt::format("{} bytes are too small for a store; the minimum is {} MiB", size,
                             kMinStoreBlocks * kBlockSize >> 20),
                 0, device.name(), kNoOffset};
  }
  if (blocks > kMaxStoreBlocks || size > device.size()) {
    return Error{Errc::kInvalid,
                 fmt::format("{} bytes are more than the device or the format can hold", size), 0,
                 device.name(), kNoOffset};
  }
  if (options.label.size() > sizeof(Superblock::label)) {
    return Error{Errc::kInvalid, "label is longer than 64 bytes", 0, device.name(), kNoOffset};
  }
  SuperblockInfo info;
  info.uuid = options.uuid ? *options.uuid : random_uuid();
  info.hash_seed = info.uuid;
  info.label = options.label;
  info.generation = 1;
  info.total_blocks = blocks;
  info.created_ns = info.written_ns = now_ns();
  // First the old signatures go, all of them; a half-made store must not pass for what was there
  // before, nor for a store.
  std::uint64_t const area = kReservedBlocks * kBlockSize;
  LCFS_TRY(device.reserve(0, area));
  AlignedBuffer zeroes(area);
  std::fill_n(zeroes.data(), area, std::byte{0});
  LCFS_TRY(device.write(0, zeroes.span()));
  // Block devices may have a backup GPT or an md superblock at their end.
  if (device.always_backed())
    LCFS_TRY(device.write((device.size() / kBlockSize) * kBlockSize - area, zeroes.span()));
  LCFS_TRY(device.flush());
  AlignedBuffer slot(kBlockSize);
  encode_superblock(info, std::span<std::byte, kBlockSize>(slot.data(), kBlockSize));
  LCFS_TRY(device.write(kSlotBlock[0] * kBlockSize, slot.span()));
  return device.flush();
}

Result<std::unique_ptr<Store>> Store::open(std::unique_ptr<Device> device,
                                           OpenOptions const& options) {
  LCFS_TRY_ASSIGN(Slots slots, read_slots(*device));
  if (slots.current.read_only_features() && !options.read_only) {
    return Error{Errc::kReadOnly,
                 "store has features that this lcfs can only read; open it read-only", EROFS,
                 device->name(), kNoOffset};
  }
  // What a process wrote that was killed before it flushed is seen, and must not be lost when what
  // it replaced is written over.
  if (!options.read_only && options.at == 0) LCFS_TRY(device->flush());
  SuperblockInfo super = slots.current;
  if (options.at != 0 && options.at != super.generation) {
    LCFS_TRY_ASSIGN(super, as_of(*device, super, options.at));
  }
  std::vector<KeptCheckpoint> const
      none;  // a store as it was has no history that means anything now
  LCFS_TRY_ASSIGN(auto usage, find_usage(*device, super,
                                         {super.store_root, super.generation,
                                          super.store_tree_blocks, super.layer_blocks},
                                         options.at != 0 ? &none : nullptr));
  OpenOptions used = options;
  if (options.at != 0) used.read_only = true;
  auto impl = std::make_unique<StoreImpl>(std::move(device), used, super, usage.used);
  if (!usage.kept.empty())
    impl->space.set_history(usage.kept.back().generation, usage.history, usage.later);
  if (!used.read_only && slots.older) {
    // The older slot stays whole until the next checkpoint replaces it, with what it keeps.  If it
    // can't be read it is no loss now.
    auto withhold = [&](NodePtr const& root) {
      TreeWalk older;
      bool const whole =
          walk_store_tree(impl->device, *slots.older, root, &usage.current, older).ok();
      if (whole) {
        older.nodes.insert(older.nodes.end(), older.runs.begin(), older.runs.end());
        impl->space.withhold(older.nodes, super.generation);
      }
      return older.kept;
    };
    for (auto const& k : withhold(slots.older->store_root)) {
      bool const kept = std::any_of(usage.kept.begin(), usage.kept.end(), [&k](auto const& now) {
        return now.generation == k.generation;
      });
      if (!kept) withhold(k.root);
    }
  }
  {
    WriteLock lock(impl->mu);
    impl->dying = std::move(usage.current.dying);
    impl->kept = std::move(usage.kept);
    impl->lost = std::move(usage.lost);
  }
  return std::make_unique<Store>(std::move(impl));
}

Status Store::close() {
  if (!impl_->options.read_only) {
    {
      // Removed layers that are still in use end here, so that their blocks are free in the store
      // that is left.
      WriteLock lock(impl_->mu);
      impl_->bury();
      for (auto const& [id, weak] : impl_->removed_in_use) {
        if (auto const object = weak.lock()) object->discard();
        impl_->dying.push_back(id);
      }
      impl_->removed_in_use.clear();
    }
    LCFS_TRY(impl_->checkpoint(false));
    LCFS_TRY(impl_->confirm());
  }
  return {};
}

Status Store::checkpoint() { return impl_->checkpoint(false); }

SuperblockInfo Store::superblock() const {
  Lock lock(impl_->super_mu);
  return impl_->super;
}

std::optional<Error> Store::failure() const {
  Lock lock(impl_->super_mu);
  return impl_->failure;
}

Device& Store::device() { return impl_->device; }

// ---------------------------------------------------------------------------------------------------------------
// Size, pins, statistics

Status Store::grow(std::uint64_t new_size) {
  LCFS_TRY(impl_->check_writable());
  Lock one(impl_->grow_mu);
  auto& device = impl_->device;
  LCFS_TRY(device.refresh_size());
  std::uint64_t const blocks = (new_size == 0 ? device.size() : new_size) / kBlockSize;
  std::uint64_t const total = impl_->space.total();
  auto refuse = [&](std::string why) {
    return Error{Errc::kInvalid, std::move(why), EINVAL, device.name(), kNoOffset};
  };
  if (blocks < total)
    return refuse(
        fmt::format("the store has {} bytes, and a store can only grow", total * kBlockSize));
  if (blocks > kMaxStoreBlocks)
    return refuse(fmt::format("{} bytes are more than the format can hold", new_size));
  if (blocks == total) return {};
  if (blocks * kBlockSize > device.size()) LCFS_TRY(device.resize(blocks * kBlockSize));
  {
    WriteLock lock(impl_->mu);
    impl_->cache.set_total(blocks);
    impl_->space.grow(blocks);
    LCFS_TRY(impl_->begin_structure_change());  // for which there is room now
  }
  // Its first flush makes the device's new size durable before a superblock counts on it.
  return impl_->checkpoint(false);
}

CheckpointPin::CheckpointPin(CheckpointPin&& o) noexcept
    : store_(std::exchange(o.store_, nullptr)), generation_(std::exchange(o.generation_, 0)) {}

CheckpointPin& CheckpointPin::operator=(CheckpointPin&& o) noexcept {
  if (this != &o) {
    reset();
    store_ = std::exchange(o.store_, nullptr);
    generation_ = std::exchange(o.generation_, 0);
  }
  return *this;
}

void CheckpointPin::reset() {
  if (store_ != nullptr) store_->space.unpin(generation_);
  store_ = nullptr;
  generation_ = 0;
}

CheckpointPin Store::pin() {
  // Under the lock that the end of a checkpoint takes before it frees anything: what is in force
  // can't be freed in between.
  Lock lock(impl_->super_mu);
  impl_->space.pin(impl_->super.generation);
  return {impl_.get(), impl_->super.generation};
}

Store::Stats Store::stats() const {
  auto const get = [](std::atomic<std::uint64_t> const& n) {
    return n.load(std::memory_order_relaxed);
  };
  auto const cache = impl_->cache.stats();
  auto const& meter = *impl_->meter;
  Stats s;
  s.cache_bytes = cache.nodes * kNodeSize;
  s.cache_limit = cache.limit;
  s.cache_hits = cache.hits;
  s.cache_misses = cache.misses;
  s.dirty_bytes = get(impl_->dirty_bytes);
  s.device_reads = get(meter.reads);
  s.device_read_bytes = get(meter.read_bytes);
  s.device_writes = get(meter.writes);
  s.device_written_bytes = get(meter.written_bytes);
  s.device_flushes = get(meter.flushes);
  s.checkpoints = get(impl_->checkpoints);
  s.checkpoint_ns = get(impl_->checkpoint_ns);
  s.checkpoint_max_ns = get(impl_->checkpoint_max_ns);
  s.checksum_failures = cache.failures + get(impl_->data_failures);
  return s;
}

void Store::set_node_cache_limit(std::uint64_t bytes) { impl_->cache.set_capacity(bytes); }
void Store::drop_caches() {
  impl_->cache.drop_clean();
  impl_->ahead->drop();
}

namespace {
SpaceReport report_space(StoreImpl const& store) LCFS_REQUIRES_SHARED(store.mu) {
  SpaceReport r;
  auto const c = store.space.counts();
  r.total = store.space.total();
  r.store_tree = store.store_tree_blocks;
  r.layers = store.layer_blocks;
  r.history = c.history;
  r.pending = c.pending;
  r.free = r.total - r.reserved - r.store_tree - r.layers - r.history - r.pending;
  // Pieces that no node can have count as kept once they are many; a few, which come and go, are no
  // news.
  std::uint64_t const pieces = c.free - c.usable;
  r.promised = c.promised +
               std::min(c.emergency + (pieces > c.emergency ? pieces - c.emergency : 0), c.free);
  return r;
}
}  // namespace

SpaceReport Store::space() const {
  ReadLock lock(impl_->mu);
  return report_space(*impl_);
}

Result<SpaceUse> Store::space_use() const {
  SpaceUse use;
  ReadLock lock(impl_->mu);
  use.total = report_space(*impl_);
  LCFS_TRY_ASSIGN(use.layers, layers_in(impl_->tree, impl_->space.total()));
  return use;
}

Result<LayerInfo> StoreImpl::layer_record(LayerId id) const {
  LCFS_TRY_ASSIGN(auto const found, tree.get({id, kLayer, 0}));
  if (!found)
    return Error{Errc::kNotFound, fmt::format("no layer {}", id), ENOENT, device.name(), kNoOffset};
  return parse_layer(found->key, found->value, space.total());
}

Result<LayerInfo> StoreImpl::live_record(LayerId id) const {
  LCFS_TRY_ASSIGN(LayerInfo info, layer_record(id));
  if (info.state == LayerState::kDying)
    return Error{Errc::kNotFound, fmt::format("no layer {}", id), ENOENT, device.name(), kNoOffset};
  return info;
}

Status StoreImpl::put_layer_record(LayerInfo const& info) {
  return tree.put({info.id, kLayer, 0}, as_bytes(encode_layer(info)));
}

void StoreImpl::count_store_tree() {
  store_tree_blocks = static_cast<std::uint64_t>(static_cast<std::int64_t>(store_tree_blocks) +
                                                 tree.take_used_delta());
  space.set_store_tree(store_tree_blocks);
}

Status StoreImpl::make_ready(Urgency urgency) {
  LCFS_TRY(check_writable());
  return space.check_reserve(urgency) ? Status{} : settle();
}

Status StoreImpl::begin_structure_change(Urgency urgency, std::uint64_t blocks) {
  LCFS_TRY(check_writable());
  LCFS_TRY(space.check_reserve(urgency));
  structure_promise.reset();
  if (blocks != 0) {
    LCFS_TRY_ASSIGN(structure_promise, Reservation::make(space, blocks, urgency));
  }
  store_space.set_payer(&structure_promise);
  space.note_release();  // perhaps a layer's
  Lock lock(dirty_mu);
  tree.set_generation(generation);
  structure_dirty = true;
  return {};
}

Result<std::shared_ptr<LayerImpl>> StoreImpl::layer_object(LayerInfo const& info) {
  if (info.state == LayerState::kDying)
    return Error{Errc::kNotFound, "layer is removed", ENOENT, device.name(), kNoOffset};
  Lock lock(layers_mu);
  auto& slot = layers[info.id];
  if (auto known = slot.lock()) return known;
  auto made = std::make_shared<LayerImpl>(*this, info);
  slot = made;
  // Layers that nobody holds any more leave their slot behind; swept when the table has doubled, so
  // that it follows the work (I7).
  if (layers.size() > sweep_at) {
    std::erase_if(layers, [](auto const& entry) { return entry.second.expired(); });
    sweep_at = std::max<std::size_t>(1024, 2 * layers.size());
  }
  return made;
}

}  // namespace lcfs
