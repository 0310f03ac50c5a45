// SPDX-License-Identifier: Apache-2.0
// Layers as things: list, create, freeze, rename, limit, remove.  Committing is commit.cc's.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/store_impl.h"

namespace lcfs {

Status Store::for_each_layer(std::function<bool(LayerInfo const&)> const& take,
                             LayerId from) const {
  // Batches: a callback that is slow must not hold up a checkpoint, and memory does not follow the
  // number of layers.
  constexpr std::size_t kBatch = 256;
  for (;;) {
    std::vector<LayerInfo> batch;
    {
      ReadLock lock(impl_->mu);
      // Layer records are spread among runs and image records; skip from one to the next by key.
      Tree::Cursor c(impl_->tree);
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
  ReadLock lock(impl_->mu);
  LCFS_TRY_ASSIGN(auto const hit, impl_->find_name(name));
  if (!hit || hit->type != NameType::kLayer)
    return Error{Errc::kNotFound, fmt::format("no layer '{}'", name)};
  return impl_->layer_record(hit->id);
}

Result<LayerInfo> Store::layer_info(LayerId id) const {
  ReadLock lock(impl_->mu);
  return impl_->live_record(id);
}

Result<std::shared_ptr<Layer>> Store::layer(LayerId id) {
  std::shared_ptr<LayerImpl> object;
  bool open = false;
  while (!object) {
    LCFS_TRY(impl_->wait_written(id));
    ReadLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(LayerInfo const info, impl_->live_record(id));
    if (impl_->is_unwritten(id)) continue;  // a commit froze it in between
    LCFS_TRY_ASSIGN(object, impl_->layer_object(info));
    open = info.state == LayerState::kOpen;
  }
  if (open && !impl_->options.read_only) {
    // A full store, or host, is no reason not to read: they stay on record, and go another time.
    if (auto tidy = object->remove_orphans(); !tidy && tidy.error().code != Errc::kNoSpace)
      return std::move(tidy).error();
  }
  return std::shared_ptr<Layer>(std::move(object));
}

std::shared_ptr<LayerImpl> StoreImpl::known_object(LayerId id) const {
  Lock lock(layers_mu);
  auto const it = layers.find(id);
  return it == layers.end() ? nullptr : it->second.lock();
}

Result<LayerSpace> Store::layer_space(LayerId id) const {
  std::shared_ptr<LayerImpl> object;
  LayerInfo info;
  {
    ReadLock lock(impl_->mu);
    if (auto const removed = impl_->removed_in_use.find(id); removed != impl_->removed_in_use.end())
      object = removed->second.lock();
    if (!object) {
      LCFS_TRY_ASSIGN(info, impl_->live_record(id));
      object = impl_->known_object(id);
    }
  }
  if (object) return object->space_now();
  return LayerSpace{info.own_blocks, 0, info.quota_blocks, info.used_blocks, info.inodes};
}

LayerIo Store::layer_io(LayerId id) const {
  auto const object = impl_->known_object(id);
  return object ? object->io() : LayerIo{};
}

Status StoreImpl::wait_written(LayerId id) {
  while (is_unwritten(id)) LCFS_TRY(checkpoint(false));
  return {};
}

bool StoreImpl::is_unwritten(LayerId id) const {
  Lock lock(layers_mu);
  return unwritten.contains(id);
}

// ---------------------------------------------------------------------------------------------------------------
// Changing

Status StoreImpl::freeze(LayerId id) {
  LCFS_TRY(make_ready(Urgency::kOrdinary));
  std::shared_ptr<LayerImpl> object;
  {
    ReadLock lock(mu);
    LCFS_TRY_ASSIGN(LayerInfo const info, layer_record(id));
    if (info.state == LayerState::kFrozen) return {};
    LCFS_TRY_ASSIGN(object, layer_object(info));
  }
  LCFS_TRY(object->freeze(id));  // writes data: not under the structure lock (I8)
  WriteLock lock(mu);
  LCFS_TRY_ASSIGN(LayerInfo info, layer_record(id));
  if (info.state != LayerState::kOpen) return {};
  LCFS_TRY(begin_structure_change());
  std::uint64_t const before = tree.changes();
  info.state = LayerState::kFrozen;
  info.frozen_ns = now_ns();
  info.quota_blocks = 0;
  auto put = [&]() LCFS_REQUIRES(mu) -> Status {
    LCFS_TRY(put_layer_record(info));
    return keep(fmt::format("layer freeze {}", info.name));
  };
  LCFS_TRY(end_structure_change(put(), before));
  note(LayerEvent::kChanged, object->snapshot(info));
  return {};
}

Status Store::freeze_layer(LayerId id) {
  LCFS_TRY(impl_->freeze(id));
  std::uint64_t const noted = impl_->last_noted();
  LCFS_TRY(impl_->checkpoint(false));
  impl_->tell(noted);
  return {};
}

Result<LayerId> Store::create_layer(std::string_view name, LayerId parent,
                                    LayerOptions const& options) {
  LCFS_TRY(check_layer_name(name));
  if (parent != 0) LCFS_TRY(impl_->freeze(parent));
  LayerInfo info;
  std::uint64_t noted = 0;
  for (int tries = 0;; ++tries) {
    if (tries != 0) LCFS_TRY(impl_->make_room());
    WriteLock lock(impl_->mu);
    LCFS_TRY(impl_->begin_structure_change());
    std::uint64_t const before = impl_->tree.changes();
    auto make = [&]() LCFS_REQUIRES(impl_->mu) -> Result<LayerId> {
      LCFS_TRY(impl_->check_free_name(name));
      LayerInfo record;
      info = {};
      if (parent != 0) {
        LCFS_TRY_ASSIGN(record, impl_->layer_record(parent));
        if (record.state != LayerState::kFrozen)
          return Error{Errc::kNotFound, "the parent layer is gone"};
      }
      info.id = info.serve_id = impl_->next_id.fetch_add(1);
      info.name = name;
      info.state = LayerState::kOpen;
      info.created_ns = now_ns();
      info.parent = parent;
      info.quota_blocks = options.quota_blocks;
      if (parent != 0) {
        // A parent that was frozen just now has counters that its record does not have yet.
        LCFS_TRY_ASSIGN(auto object, impl_->layer_object(record));
        LayerInfo const from = object->snapshot(record);
        info.root = from.root;
        info.root_inode = from.root_inode;
        info.used_blocks = from.used_blocks;
        info.inodes = from.inodes;
        ++record.children;
        LCFS_TRY(impl_->put_layer_record(record));
        LCFS_TRY(impl_->put_layer_record(info));
      } else {
        info.root_inode = impl_->next_inode.fetch_add(1);
        LCFS_TRY_ASSIGN(auto object, impl_->layer_object(info));
        LCFS_TRY(object->make_root(options.root));
        info = object->snapshot(info);
        info.own_blocks = 0;  // comes with the hand-over, together with the runs
        LCFS_TRY(impl_->put_layer_record(info));
      }
      LCFS_TRY(impl_->put_name(name, info.id, NameType::kLayer));
      ++impl_->layer_count;
      LCFS_TRY(impl_->keep(fmt::format("layer create {}", name)));
      return info.id;
    };
    auto made = impl_->end_structure_change(make(), before);
    if (!made && made.error().code == Errc::kNoSpace && tries < 2 && impl_->check_writable())
      continue;
    if (!made) return made;
    // The parent's data may still be on its way to the device.
    if (parent != 0) {
      Lock table(impl_->layers_mu);
      impl_->unwritten.insert(info.id);
    }
    impl_->note(LayerEvent::kCreated, info);
    noted = impl_->last_noted();
    break;
  }
  LCFS_TRY(impl_->checkpoint(false));
  impl_->tell(noted);
  return info.id;
}

Status Store::rename_layer(LayerId id, std::string_view new_name) {
  LCFS_TRY(check_layer_name(new_name));
  LCFS_TRY(impl_->make_ready(Urgency::kOrdinary));
  std::uint64_t noted = 0;
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(LayerInfo const old, impl_->live_record(id));
    if (old.name == new_name) return {};
    LCFS_TRY(impl_->check_free_name(new_name));
    LCFS_TRY(impl_->begin_structure_change());
    std::uint64_t const before = impl_->tree.changes();
    LayerInfo info = old;
    info.name = new_name;
    info.anonymous = false;
    auto rename = [&]() LCFS_REQUIRES(impl_->mu) -> Status {
      LCFS_TRY(impl_->put_name(new_name, id, NameType::kLayer));
      if (!old.anonymous) LCFS_TRY(impl_->erase_name(old.name));
      LCFS_TRY(impl_->put_layer_record(info));
      return impl_->keep(fmt::format("layer rename {} {}", old.name, new_name));
    };
    LCFS_TRY(impl_->end_structure_change(rename(), before));
    if (old.anonymous) {
      impl_->note(LayerEvent::kCreated, info);
    } else {
      impl_->note(LayerEvent::kRenamed, old, info);
    }
    noted = impl_->last_noted();
  }
  LCFS_TRY(impl_->checkpoint(false));
  impl_->tell(noted);
  return {};
}

Status Store::set_quota(LayerId id, std::uint64_t blocks) {
  LCFS_TRY(impl_->make_ready(Urgency::kOrdinary));
  std::uint64_t noted = 0;
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(LayerInfo info, impl_->live_record(id));
    if (info.state != LayerState::kOpen) {
      return Error{
          Errc::kReadOnly,
          fmt::format("layer '{}' is frozen: it can't grow, so it has no quota", info.name)};
    }
    if (info.quota_blocks == blocks) return {};
    LCFS_TRY(impl_->begin_structure_change());
    std::uint64_t const before = impl_->tree.changes();
    info.quota_blocks = blocks;
    LCFS_TRY(impl_->end_structure_change(impl_->put_layer_record(info), before));
    if (auto const object = impl_->known_object(id)) object->set_quota(blocks);
    impl_->note(LayerEvent::kChanged, info);
    noted = impl_->last_noted();
  }
  LCFS_TRY(impl_->checkpoint(false));
  impl_->tell(noted);
  return {};
}

Result<std::optional<Digest>> Store::tree_digest(LayerId id) const {
  ReadLock lock(impl_->mu);
  LCFS_TRY(impl_->live_record(id));
  LCFS_TRY_ASSIGN(auto const found, impl_->tree.get({id, kTreeDigest, 0}));
  if (!found) return std::optional<Digest>{};
  LCFS_TRY_ASSIGN(auto const digest, parse_tree_digest(found->key, found->value));
  return std::optional(digest);
}

Status Store::set_tree_digest(LayerId id, Digest const& digest) {
  LCFS_TRY(impl_->make_ready(Urgency::kOrdinary));
  WriteLock lock(impl_->mu);
  LCFS_TRY_ASSIGN(LayerInfo const info, impl_->live_record(id));
  if (info.state != LayerState::kFrozen)
    return Error{Errc::kInvalid, "only frozen layers have a lasting digest"};
  LCFS_TRY(impl_->begin_structure_change());
  std::uint64_t const before = impl_->tree.changes();
  return impl_->end_structure_change(
      impl_->tree.put({id, kTreeDigest, 0}, as_bytes(encode_tree_digest(digest))), before);
}

// ---------------------------------------------------------------------------------------------------------------
// Removing

Result<LayerId> StoreImpl::remove_layer_locked(LayerInfo info) {
  if (info.children != 0) {
    return Error{Errc::kBusy,
                 fmt::format("layer '{}' has {} layer(s) standing on it; remove them first",
                             info.name, info.children),
                 EBUSY, device.name(), kNoOffset};
  }
  if (info.images != 0) {
    return Error{
        Errc::kBusy,
        fmt::format("layer '{}' is the top of {} image(s); remove those with lcfs image rm",
                    info.name, info.images),
        EBUSY, device.name(), kNoOffset};
  }
  for (;;) {
    LayerInfo parent;
    if (info.parent != 0) {
      LCFS_TRY_ASSIGN(parent, layer_record(info.parent));
      --parent.children;
    }
    LCFS_TRY(remove_one_locked(info, parent));
    if (parent.id == 0) return LayerId{0};
    if (!parent.anonymous || parent.children != 0 || parent.images != 0) {
      LCFS_TRY(put_layer_record(parent));
      return parent.id;
    }
    info = std::move(parent);
  }
}

Status StoreImpl::make_anonymous(LayerInfo info) {
  if (info.anonymous) return {};
  LCFS_TRY(erase_name(info.name));
  note(LayerEvent::kRemoved, info);
  info.anonymous = true;
  return put_layer_record(info);
}

Status StoreImpl::remove_one_locked(LayerInfo const& info, LayerInfo const& parent) {
  if (!info.anonymous) LCFS_TRY(erase_name(info.name));
  if (info.has_digests) LCFS_TRY(erase_digest(info.chain_id, NameType::kLayer));
  if (info.skeleton_blocks != 0) LCFS_TRY(erase_skeleton(info.id));
  LCFS_TRY(tree.erase({info.id, kTreeDigest, 0}));
  LayerInfo dead;
  dead.id = info.id;
  dead.state = LayerState::kDying;
  dead.own_blocks = info.own_blocks;
  dead.created_ns = info.created_ns;
  LCFS_TRY(put_layer_record(dead));
  --layer_count;
  if (!info.anonymous) note(LayerEvent::kRemoved, info);

  std::shared_ptr<LayerImpl> object;
  {
    Lock lock(layers_mu);
    if (auto it = layers.find(info.id); it != layers.end()) {
      object = it->second.lock();
      layers.erase(it);
    }
  }
  if (object) {
    Lock lock(dirty_mu);
    auto const waits = std::find(dirty_layers.begin(), dirty_layers.end(), object);
    // Nobody can find it any more: who has it now is all who ever will.
    if (object.use_count() == 1 + (waits != dirty_layers.end() ? 1 : 0)) {
      if (waits != dirty_layers.end()) dirty_layers.erase(waits);
    } else {
      removed_in_use.emplace(info.id, object);
    }
  }
  if (removed_in_use.contains(info.id)) {
    // It goes on, and so must what it inherits: its parent counts as in use as long.  bury() comes
    // when it is let go.
    std::shared_ptr<LayerImpl> base;
    if (parent.id != 0) {
      LCFS_TRY_ASSIGN(base, layer_object(parent));
    }
    object->removed(std::move(base));
    return {};
  }
  if (object) object->discard();
  dying.push_back(info.id);
  return {};
}

void StoreImpl::bury() {
  for (;;) {
    std::vector<Gone> list;
    {
      Lock lock(gone_mu);
      list.swap(released);
    }
    if (list.empty()) return;
    for (auto& g : list) {
      if (removed_in_use.erase(g.id) != 0) dying.push_back(g.id);
    }
    // The end of the list lets go of bases, which may be the next to go.
  }
}

Status Store::remove_layer(LayerId id, Remove how) {
  LCFS_TRY(impl_->make_ready(Urgency::kEmergency));
  LCFS_TRY(impl_->checkpoint(false));  // what goes is kept as it is now
  std::uint64_t noted = 0;
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(LayerInfo info, impl_->live_record(id));
    LCFS_TRY(impl_->begin_structure_change(Urgency::kEmergency));
    std::uint64_t const before = impl_->tree.changes();
    bool const anonymous = how == Remove::kLazy && (info.children != 0 || info.images != 0);
    auto remove = [&]() LCFS_REQUIRES(impl_->mu) -> Status {
      std::string const what = fmt::format("layer rm {}{}", anonymous ? "--lazy " : "", info.name);
      if (anonymous) {
        LCFS_TRY(impl_->make_anonymous(std::move(info)));
      } else {
        LCFS_TRY(impl_->remove_layer_locked(std::move(info)));
      }
      return impl_->keep(what);
    };
    LCFS_TRY(impl_->end_structure_change(remove(), before));
    noted = impl_->last_noted();
  }
  LCFS_TRY(impl_->checkpoint(false));
  impl_->tell(noted);
  return {};
}

}  // namespace lcfs
