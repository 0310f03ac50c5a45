// SPDX-License-Identifier: Apache-2.0
// Layers as things: create, freeze, remove, list.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/store_impl.h"

namespace lcfs {

Status Store::for_each_layer(std::function<bool(LayerInfo const&)> const& take) const {
  // Batches: a callback that is slow must not hold up a checkpoint, and memory does not follow the number of layers.
  constexpr std::size_t kBatch = 256;
  LayerId from = 1;
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

Result<LayerInfo> Store::layer_info(LayerId id) const {
  ReadLock lock(impl_->mu);
  LCFS_TRY_ASSIGN(LayerInfo info, impl_->layer_record(id));
  if (info.state == LayerState::kDying) return Error{Errc::kNotFound, fmt::format("no layer {}", id), ENOENT};
  return info;
}

Result<std::shared_ptr<Layer>> Store::layer(LayerId id) {
  std::shared_ptr<LayerImpl> object;
  bool open = false;
  {
    ReadLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(LayerInfo const info, impl_->layer_record(id));
    LCFS_TRY_ASSIGN(object, impl_->layer_object(info));
    open = info.state == LayerState::kOpen;
  }
  if (open && !impl_->options.read_only) LCFS_TRY(object->remove_orphans());
  return std::shared_ptr<Layer>(std::move(object));
}

Status Store::freeze_layer(LayerId id) {
  std::shared_ptr<LayerImpl> object;
  {
    ReadLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(LayerInfo const info, impl_->layer_record(id));
    if (info.state == LayerState::kFrozen) return {};
    LCFS_TRY_ASSIGN(object, impl_->layer_object(info));
  }
  LCFS_TRY(object->freeze());  // writes data: not under the structure lock (I8)
  WriteLock lock(impl_->mu);
  LCFS_TRY_ASSIGN(LayerInfo info, impl_->layer_record(id));
  if (info.state != LayerState::kOpen) return {};
  LCFS_TRY(impl_->begin_structure_change());
  std::uint64_t const before = impl_->tree.changes();
  info.state = LayerState::kFrozen;
  info.frozen_ns = now_ns();
  return impl_->end_structure_change(impl_->put_layer_record(info), before);
}

Result<LayerId> Store::create_layer(std::string_view name, LayerId parent) {
  LCFS_TRY(check_layer_name(name));
  if (parent != 0) LCFS_TRY(freeze_layer(parent));
  LayerInfo info;
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY(impl_->begin_structure_change());
    std::uint64_t const before = impl_->tree.changes();
    auto make = [&]() LCFS_REQUIRES(impl_->mu) -> Result<LayerId> {
      LCFS_TRY_ASSIGN(auto const taken, impl_->find_name(name));
      if (taken) return Error{Errc::kExists, fmt::format("the name '{}' is taken", name), EEXIST};
      info.id = impl_->next_id.fetch_add(1);
      info.name = name;
      info.state = LayerState::kOpen;
      info.created_ns = now_ns();
      info.parent = parent;
      if (parent != 0) {
        LCFS_TRY_ASSIGN(LayerInfo from, impl_->layer_record(parent));
        if (from.state != LayerState::kFrozen) return Error{Errc::kNotFound, "the parent layer is gone", ENOENT};
        LCFS_TRY_ASSIGN(auto object, impl_->layer_object(from));
        from = object->snapshot(from);
        info.root = from.root;
        info.root_inode = from.root_inode;
        info.used_blocks = from.used_blocks;
        info.inodes = from.inodes;
        ++from.children;
        // A parent that was frozen just now has counters that its record does not have yet: only `children` changes here.
        LCFS_TRY_ASSIGN(LayerInfo record, impl_->layer_record(parent));
        record.children = from.children;
        LCFS_TRY(impl_->put_layer_record(record));
        LCFS_TRY(impl_->put_layer_record(info));
      } else {
        info.root_inode = impl_->next_inode.fetch_add(1);
        LCFS_TRY_ASSIGN(auto object, impl_->layer_object(info));
        LCFS_TRY(object->make_root());
        info = object->snapshot(info);
        info.own_blocks = 0;  // comes with the hand-over, together with the runs
        LCFS_TRY(impl_->put_layer_record(info));
      }
      LCFS_TRY(impl_->put_name(name, info.id, NameType::kLayer));
      ++impl_->layer_count;
      return info.id;
    };
    auto made = impl_->end_structure_change(make(), before);
    if (!made) return made;
  }
  LCFS_TRY(impl_->checkpoint(false));
  return info.id;
}

Status StoreImpl::remove_layer_locked(LayerInfo info) {
  if (info.children != 0) {
    return Error{Errc::kBusy, fmt::format("layer '{}' has {} layer(s) standing on it; remove them first", info.name, info.children),
                 EBUSY, device.name(), kNoOffset};
  }
  if (info.images != 0) {
    return Error{Errc::kBusy, fmt::format("layer '{}' is the top of {} image(s); remove those with lcfs image rm", info.name, info.images),
                 EBUSY, device.name(), kNoOffset};
  }
  LCFS_TRY(erase_name(info.name));
  if (info.has_digests) LCFS_TRY(erase_digest(info.chain_id, NameType::kLayer));
  if (info.parent != 0) {
    LCFS_TRY_ASSIGN(LayerInfo parent, layer_record(info.parent));
    --parent.children;
    LCFS_TRY(put_layer_record(parent));
  }
  {
    Lock lock(layers_mu);
    auto it = layers.find(info.id);
    if (it != layers.end()) {
      if (auto object = it->second.lock()) object->discard();
      layers.erase(it);
    }
  }
  LayerInfo dead;
  dead.id = info.id;
  dead.state = LayerState::kDying;
  dead.own_blocks = info.own_blocks;
  dead.created_ns = info.created_ns;
  LCFS_TRY(put_layer_record(dead));
  dying.push_back(info.id);
  --layer_count;
  return {};
}

Status Store::remove_layer(LayerId id) {
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(LayerInfo info, impl_->layer_record(id));
    if (info.state == LayerState::kDying) return Error{Errc::kNotFound, fmt::format("no layer {}", id), ENOENT};
    LCFS_TRY(impl_->begin_structure_change());
    std::uint64_t const before = impl_->tree.changes();
    LCFS_TRY(impl_->end_structure_change(impl_->remove_layer_locked(std::move(info)), before));
  }
  return impl_->checkpoint(false);
}

}  // namespace lcfs
