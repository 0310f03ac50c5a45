// SPDX-License-Identifier: Apache-2.0
// What a Store does with layers as a whole: list, create, freeze, rename, limit, remove.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/store/removal.h"
#include "engine/store/store_impl.h"

namespace lcfs {

Status Store::for_each_layer(std::function<bool(LayerInfo const&)> const& take,
                             LayerId from) const {
  // Batches: a callback that is slow must not hold up a checkpoint, and memory does not follow the
  // number of layers.
  constexpr std::size_t kBatch = 256;
  for (;;) {
    std::vector<LayerInfo> batch;
    {
      ReadLock lock(impl_->catalog.mutex());
      // Layer records are spread among runs and image records; skip from one to the next by key.
      Tree::Cursor c(impl_->catalog.tree.read());
      LCFS_TRY(c.seek({from, kLayer, 0}));
      while (c.valid() && batch.size() < kBatch) {
        Key const key = c.key();
        if (key.kind == kLayer) {
          LCFS_TRY_ASSIGN(auto info, parse_layer(key, c.value(), impl_->space.total()));
          from = info.id + 1;
          if (info.state != LayerState::kDying) batch.push_back(std::move(info));
          LCFS_TRY(c.seek({from, kLayer, 0}));
        } else {
          from = key.kind < kLayer ? key.inode : key.inode + 1;
          LCFS_TRY(c.seek({from, kLayer, 0}));
        }
      }
      if (!c.valid() && batch.empty()) return {};
      if (!c.valid()) from = 0;
    }
    for (auto const& info : batch) {
      if (!take(info)) return {};
    }
    if (from == 0) return {};
  }
}

Result<LayerInfo> Store::find_layer(std::string_view name) const {
  ReadLock lock(impl_->catalog.mutex());
  LCFS_TRY_ASSIGN(auto const hit, impl_->catalog.names.find(name));
  if (!hit || hit->type != NameType::kLayer)
    return Error::not_found(fmt::format("no layer '{}'", name));
  return impl_->catalog.layers.record(hit->id);
}

Result<LayerInfo> Store::layer_info(LayerId id) const {
  ReadLock lock(impl_->catalog.mutex());
  return impl_->catalog.layers.live(id);
}

Result<std::shared_ptr<Layer>> Store::layer(LayerId id) {
  std::shared_ptr<LayerImpl> object;
  bool open = false;
  while (!object) {
    LCFS_TRY(impl_->checkpointer.wait_written(id));
    ReadLock lock(impl_->catalog.mutex());
    LCFS_TRY_ASSIGN(LayerInfo const info, impl_->catalog.layers.live(id));
    if (impl_->registry.is_unwritten(id)) continue;  // a commit froze it in between
    LCFS_TRY_ASSIGN(object, impl_->registry.object(info));
    open = info.state == LayerState::kOpen;
  }
  if (open && !impl_->options.read_only) {
    // A full store, or host, is no reason not to read: orphans stay on record, and go another time.
    if (auto tidy = object->remove_orphans(); !tidy && tidy.error().code != Errc::kNoSpace)
      return std::move(tidy).error();
  }
  return std::shared_ptr<Layer>(std::move(object));
}

Result<LayerSpace> Store::layer_space(LayerId id) const {
  std::shared_ptr<LayerImpl> object;
  LayerInfo info;
  {
    ReadLock lock(impl_->catalog.mutex());
    object = impl_->removed.object(id);
    if (!object) {
      LCFS_TRY_ASSIGN(info, impl_->catalog.layers.live(id));
      object = impl_->registry.known(id);
    }
  }
  if (object) return object->space_now();
  return LayerSpace{info.own_blocks, 0, info.quota_blocks, info.used_blocks, info.inodes};
}

LayerIo Store::layer_io(LayerId id) const {
  auto const object = impl_->registry.known(id);
  return object ? object->io() : LayerIo{};
}

// Changing ----------------------------------------------------------------------------------------

namespace {

// Not durable yet.  Nothing happens if the layer is frozen already.
Status freeze(StoreImpl& s, LayerId id) LCFS_EXCLUDES(structure) {
  LCFS_TRY(s.room.make_ready(Urgency::kOrdinary));
  std::shared_ptr<LayerImpl> object;
  {
    ReadLock lock(s.catalog.mutex());
    LCFS_TRY_ASSIGN(LayerInfo const info, s.catalog.layers.record(id));
    if (info.state == LayerState::kFrozen) return {};
    LCFS_TRY_ASSIGN(object, s.registry.object(info));
  }
  LCFS_TRY(object->freeze(id));  // writes data: not under the structure lock (I8)
  WriteLock lock(s.catalog.mutex());
  LCFS_TRY_ASSIGN(LayerInfo info, s.catalog.layers.record(id));
  if (info.state != LayerState::kOpen) return {};
  LCFS_TRY(s.catalog.tree.change(Urgency::kOrdinary, 0, [&]() LCFS_REQUIRES(structure) -> Status {
    info.state = LayerState::kFrozen;
    info.frozen_ns = now_ns();
    info.quota_blocks = 0;
    LCFS_TRY(s.catalog.layers.put(info));
    return s.history.keep(fmt::format("layer freeze {}", info.name));
  }));
  s.events.note(LayerEvent::kChanged, object->snapshot(info));
  return {};
}

// Records of a new layer, part of a change; `info` gets all that is known of it.
Status put_child(StoreImpl& s, LayerInfo& info) LCFS_REQUIRES(structure) {
  LCFS_TRY_ASSIGN(LayerInfo parent, s.catalog.layers.record(info.parent));
  if (parent.state != LayerState::kFrozen) return Error::not_found("the parent layer was removed");
  // A parent that was frozen just now has counters that its record does not have yet.
  LCFS_TRY_ASSIGN(auto object, s.registry.object(parent));
  LayerInfo const from = object->snapshot(parent);
  info.root = from.root;
  info.root_inode = from.root_inode;
  info.used_blocks = from.used_blocks;
  info.inodes = from.inodes;
  ++parent.children;
  LCFS_TRY(s.catalog.layers.put(parent));
  return s.catalog.layers.put(info);
}

Status put_base(StoreImpl& s, LayerInfo& info, Owner root) LCFS_REQUIRES(structure) {
  info.root_inode = s.ids.take_inodes();
  LCFS_TRY_ASSIGN(auto object, s.registry.object(info));
  LCFS_TRY(object->make_root(root));
  info = object->snapshot(info);
  info.own_blocks = 0;  // comes with the hand-over, together with the runs
  return s.catalog.layers.put(info);
}

Result<LayerInfo> put_new_layer(StoreImpl& s, std::string_view name, LayerId parent,
                                LayerOptions const& options) LCFS_REQUIRES(structure) {
  LCFS_TRY(s.catalog.names.check_free(name));
  LayerInfo info;
  info.id = info.serve_id = s.ids.take();
  info.name = name;
  info.state = LayerState::kOpen;
  info.created_ns = now_ns();
  info.parent = parent;
  info.quota_blocks = options.quota_blocks;
  LCFS_TRY(parent != 0 ? put_child(s, info) : put_base(s, info, options.root));
  LCFS_TRY(s.catalog.names.put(name, info.id, NameType::kLayer));
  s.catalog.layers.count_new();
  LCFS_TRY(s.history.keep(fmt::format("layer create {}", name)));
  return info;
}

}  // namespace

Status Store::freeze_layer(LayerId id) {
  LCFS_TRY(freeze(*impl_, id));
  return impl_->finish(impl_->events.last_noted());
}

Result<LayerId> Store::create_layer(std::string_view name, LayerId parent,
                                    LayerOptions const& options) {
  LCFS_TRY(check_layer_name(name));
  auto& s = *impl_;
  if (parent != 0) LCFS_TRY(freeze(s, parent));
  LayerId id = 0;
  std::uint64_t noted = 0;
  for (int tries = 0; id == 0; ++tries) {
    if (tries != 0) LCFS_TRY(s.room.make());
    WriteLock lock(s.catalog.mutex());
    bool begun = false;
    auto const made = s.catalog.tree.change(Urgency::kOrdinary, 0,
                                            [&]() LCFS_REQUIRES(structure) -> Result<LayerInfo> {
                                              begun = true;
                                              return put_new_layer(s, name, parent, options);
                                            });
    bool const full = !made && made.error().code == Errc::kNoSpace;
    if (full && begun && tries < 2 && s.health.check_writable()) continue;
    if (!made) return made.error();
    id = made->id;
    // The parent's data may still be on its way to the device.
    if (parent != 0) s.registry.set_unwritten(id);
    s.events.note(LayerEvent::kCreated, *made);
    noted = s.events.last_noted();
  }
  LCFS_TRY(s.finish(noted));
  return id;
}

Status Store::rename_layer(LayerId id, std::string_view new_name) {
  LCFS_TRY(check_layer_name(new_name));
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kOrdinary));
  std::uint64_t noted = 0;
  {
    WriteLock lock(s.catalog.mutex());
    LCFS_TRY_ASSIGN(LayerInfo const old, s.catalog.layers.live(id));
    if (old.name == new_name) return {};
    LCFS_TRY(s.catalog.names.check_free(new_name));
    LayerInfo info = old;
    info.name = new_name;
    info.anonymous = false;
    LCFS_TRY(s.catalog.tree.change(Urgency::kOrdinary, 0, [&]() LCFS_REQUIRES(structure) -> Status {
      LCFS_TRY(s.catalog.names.put(new_name, id, NameType::kLayer));
      if (!old.anonymous) LCFS_TRY(s.catalog.names.erase(old.name));
      LCFS_TRY(s.catalog.layers.put(info));
      return s.history.keep(fmt::format("layer rename {} {}", old.name, new_name));
    }));
    if (old.anonymous) {
      s.events.note(LayerEvent::kCreated, info);
    } else {
      s.events.note(LayerEvent::kRenamed, old, info);
    }
    noted = s.events.last_noted();
  }
  return s.finish(noted);
}

Status Store::set_quota(LayerId id, std::uint64_t blocks) {
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kOrdinary));
  std::uint64_t noted = 0;
  {
    WriteLock lock(s.catalog.mutex());
    LCFS_TRY_ASSIGN(LayerInfo info, s.catalog.layers.live(id));
    if (info.state != LayerState::kOpen) {
      return Error::read_only(
          fmt::format("layer '{}' is read-only: it cannot grow, so it has no quota", info.name));
    }
    if (info.quota_blocks == blocks) return {};
    info.quota_blocks = blocks;
    LCFS_TRY(s.catalog.tree.change(Urgency::kOrdinary, 0, [&]() LCFS_REQUIRES(structure) {
      return s.catalog.layers.put(info);
    }));
    if (auto const object = s.registry.known(id)) object->set_quota(blocks);
    s.events.note(LayerEvent::kChanged, info);
    noted = s.events.last_noted();
  }
  return s.finish(noted);
}

Result<std::optional<Digest>> Store::tree_digest(LayerId id) const {
  ReadLock lock(impl_->catalog.mutex());
  LCFS_TRY(impl_->catalog.layers.live(id));
  return impl_->catalog.layers.tree_digest(id);
}

Status Store::set_tree_digest(LayerId id, Digest const& digest) {
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kOrdinary));
  WriteLock lock(s.catalog.mutex());
  LCFS_TRY_ASSIGN(LayerInfo const info, s.catalog.layers.live(id));
  if (info.state != LayerState::kFrozen)
    return Error::invalid("only the digest of a read-only layer can be recorded");
  return s.catalog.tree.change(Urgency::kOrdinary, 0, [&]() LCFS_REQUIRES(structure) {
    return s.catalog.layers.put_tree_digest(id, digest);
  });
}

// Removing ----------------------------------------------------------------------------------------

Status Store::remove_layer(LayerId id, Remove how) {
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kEmergency));
  LCFS_TRY(s.checkpointer.run(false));  // what goes is kept as it is now
  std::uint64_t noted = 0;
  {
    WriteLock lock(s.catalog.mutex());
    LCFS_TRY_ASSIGN(LayerInfo const info, s.catalog.layers.live(id));
    bool const anonymous = how == Remove::kLazy && (info.children != 0 || info.images != 0);
    LCFS_TRY(
        s.catalog.tree.change(Urgency::kEmergency, 0, [&]() LCFS_REQUIRES(structure) -> Status {
          if (anonymous) {
            LCFS_TRY(make_anonymous(s, info));
          } else {
            LCFS_TRY(lcfs::remove_layer(s, info));
          }
          return s.history.keep(
              fmt::format("layer rm {}{}", anonymous ? "--lazy " : "", info.name));
        }));
    noted = s.events.last_noted();
  }
  return s.finish(noted);
}

}  // namespace lcfs
