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
#include "engine/store/kept_tree.h"
#include "engine/store/store_impl.h"
#include "engine/store/store_walk.h"

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

// The process that used the store before may have been killed in the middle of the next checkpoint.
// Its nodes must not have the number of one that becomes durable: fsck --search could take them for
// it.
constexpr std::uint64_t kGenerationsAtOpening = 2;

// The superblock that a kept checkpoint would have now.
Result<SuperblockInfo> as_of(Device& device, SuperblockInfo super, std::uint64_t generation) {
  StoreTreeUse walk;
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
  return Error::not_found(fmt::format("no restore point {}; lcfs log lists them", generation))
      .in(device.name());
}

}  // namespace

StoreImpl::StoreImpl(std::unique_ptr<Device> device_in, OpenOptions const& options_in,
                     SuperblockInfo const& super, std::vector<Extent> const& used)
    : meter(std::make_unique<MeteredDevice>(std::move(device_in))),
      ahead(std::make_unique<ReadAheadDevice>(*meter, options_in.read_ahead)),
      device(*ahead),
      options(options_in),
      hash_seed(super.hash_seed),
      cache(device, super.total_blocks, super.uuid, options_in.node_cache),
      space(device, super.total_blocks, used),
      ids(super.next_id, super.next_inode),
      health(device, options_in.read_only),
      superblocks(device, super),
      writeback(device, cache),
      dirty(super.generation + kGenerationsAtOpening),
      registry(*this),
      catalog(cache, space, health, dirty, ids, device, super),
      history(catalog.tree, space, superblocks, dirty, device, options_in.keep, super.keep),
      checkpointer(*this),
      room(*this) {}

StoreImpl::~StoreImpl() {
  // What still holds layers lets go while all that they need is there.
  dirty.clear();
  {
    WriteLock lock(catalog.mutex());
    checkpointer.clear();
  }
  removed.clear();
}

Status StoreImpl::finish(std::uint64_t noted) {
  LCFS_TRY(checkpointer.run(false));
  events.tell(noted);
  return {};
}

Store::Store(std::unique_ptr<StoreImpl> impl) : impl_(std::move(impl)) {}
Store::~Store() {
  // However its use ended: frees what the host had reserved for free blocks.
  if (impl_ && !impl_->options.read_only) impl_->space.trim();
}

Status Store::format(Device& device, FormatOptions const& options) {
  std::uint64_t const size = options.size != 0 ? options.size : device.size();
  std::uint64_t const blocks = size / kBlockSize;
  if (blocks < kMinStoreBlocks) {
    return Error::invalid(fmt::format("a store of {} bytes is too small; the minimum is {} MiB",
                                      size, kMinStoreBlocks * kBlockSize >> 20))
        .in(device.name());
  }
  if (blocks > kMaxStoreBlocks || size > device.size()) {
    return Error::invalid(
               fmt::format("a store of {} bytes is larger than the device or the format allows",
                           size))
        .in(device.name());
  }
  if (options.label.size() > sizeof(Superblock::label)) {
    return Error::invalid("label is longer than 64 bytes").in(device.name());
  }
  SuperblockInfo info;
  info.uuid = options.uuid ? *options.uuid : random_uuid();
  info.hash_seed = info.uuid;
  info.label = options.label;
  info.generation = 1;
  info.total_blocks = blocks;
  info.created_ns = info.written_ns = now_ns();
  // All old signatures go first: a half-made store must not pass for what was there before, nor for
  // a store.
  std::uint64_t const area = kReservedBlocks * kBlockSize;
  LCFS_TRY(device.reserve(0, area));
  AlignedBuffer zeroes(area);
  std::fill_n(zeroes.data(), area, std::byte{0});
  LCFS_TRY(device.write(0, zeroes.span()));
  // Block devices may have a backup GPT or an md superblock at their end.
  if (device.always_backed())
    LCFS_TRY(device.write((device.size() / kBlockSize) * kBlockSize - area, zeroes.span()));
  LCFS_TRY(device.flush());
  LCFS_TRY(Superblocks::write(device, info));
  return device.flush();
}

Result<std::unique_ptr<Store>> Store::open(std::unique_ptr<Device> device,
                                           OpenOptions const& options) {
  LCFS_TRY_ASSIGN(auto const slots, Superblocks::find(*device));
  if (slots.current.read_only_features() && !options.read_only) {
    return Error::read_only(
               "the store has features that this lcfs can only read; open it read-only")
        .in(device->name());
  }
  // A process that was killed may have written what it did not flush.  We see it, so it must not be
  // lost when what it replaced is overwritten.
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
    // The older slot stays whole until the next checkpoint replaces it, with what it keeps.  One
    // that cannot be read is no loss.
    auto withhold = [&](NodePtr const& root) {
      StoreTreeUse older;
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
    WriteLock lock(impl->catalog.mutex());
    impl->removed.set_dying(std::move(usage.current.dying));
    impl->history.set(std::move(usage.kept), std::move(usage.lost));
  }
  return std::make_unique<Store>(std::move(impl));
}

Status Store::close() {
  if (impl_->options.read_only) return {};
  {
    WriteLock lock(impl_->catalog.mutex());
    impl_->removed.end_all();
  }
  LCFS_TRY(impl_->checkpointer.run(false));
  return impl_->superblocks.confirm();
}

Status Store::checkpoint() { return impl_->checkpointer.run(false); }

SuperblockInfo Store::superblock() const { return impl_->superblocks.in_force(); }

std::optional<Error> Store::failure() const { return impl_->health.failure(); }

bool Store::read_only() const { return impl_->options.read_only; }
Status Store::check_writable() const { return impl_->health.check_writable(); }

StoreImpl& inside(Store& store) { return *store.impl_; }

void Store::set_events(LayerEvents* events) { impl_->events.set_listener(events); }
Device& Store::device() { return impl_->device; }

// Size, pins, statistics --------------------------------------------------------------------------

Status Store::grow(std::uint64_t new_size) {
  LCFS_TRY(impl_->health.check_writable());
  Lock one(impl_->grow_mu);
  auto& device = impl_->device;
  LCFS_TRY(device.refresh_size());
  std::uint64_t const blocks = (new_size == 0 ? device.size() : new_size) / kBlockSize;
  std::uint64_t const total = impl_->space.total();
  auto refuse = [&](std::string why) { return Error::invalid(std::move(why)).in(device.name()); };
  if (blocks < total)
    return refuse(fmt::format("the store has {} bytes; a store can only grow", total * kBlockSize));
  if (blocks > kMaxStoreBlocks)
    return refuse(fmt::format("a store of {} bytes is larger than the format allows", new_size));
  if (blocks == total) return {};
  if (blocks * kBlockSize > device.size()) LCFS_TRY(device.resize(blocks * kBlockSize));
  {
    WriteLock lock(impl_->catalog.mutex());
    impl_->cache.set_total(blocks);
    impl_->space.grow(blocks);
    LCFS_TRY(impl_->catalog.tree.begin());  // for which there is room now
  }
  // Its first flush makes the device's new size durable before a superblock relies on it.
  return impl_->checkpointer.run(false);
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
  std::uint64_t const generation = impl_->superblocks.hold([&](SuperblockInfo const& in_force) {
    impl_->space.pin(in_force.generation);
    return in_force.generation;
  });
  return {impl_.get(), generation};
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
  auto const checkpoints = impl_->checkpointer.stats();
  s.checkpoints = checkpoints.count;
  s.checkpoint_ns = checkpoints.ns;
  s.checkpoint_max_ns = checkpoints.max_ns;
  s.checksum_failures = cache.failures + get(impl_->data_failures);
  return s;
}

void Store::set_node_cache_limit(std::uint64_t bytes) { impl_->cache.set_capacity(bytes); }
void Store::drop_caches() {
  impl_->cache.drop_clean();
  impl_->ahead->drop();
}

namespace {
SpaceReport report_space(StoreImpl const& store) LCFS_REQUIRES_SHARED(structure) {
  SpaceReport r;
  auto const c = store.space.counts();
  r.total = store.space.total();
  r.store_tree = store.catalog.tree.blocks();
  r.layers = store.catalog.layers.blocks();
  r.history = c.history;
  r.pending = c.pending;
  r.free = r.total - r.reserved - r.store_tree - r.layers - r.history - r.pending;
  // Pieces too small for a node count as reserved once they are many; a few come and go all the
  // time.
  std::uint64_t const pieces = c.free - c.usable;
  r.promised = c.promised +
               std::min(c.emergency + (pieces > c.emergency ? pieces - c.emergency : 0), c.free);
  return r;
}
}  // namespace

SpaceReport Store::space() const {
  ReadLock lock(impl_->catalog.mutex());
  return report_space(*impl_);
}

Result<SpaceUse> Store::space_use() const {
  SpaceUse use;
  ReadLock lock(impl_->catalog.mutex());
  use.total = report_space(*impl_);
  LCFS_TRY_ASSIGN(use.layers, layers_in(impl_->catalog.tree.read(), impl_->space.total()));
  return use;
}

}  // namespace lcfs
