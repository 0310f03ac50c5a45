// SPDX-License-Identifier: Apache-2.0
#include "engine/store/removal.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

namespace lcfs {

namespace {

// Nobody can get a removed layer's object any more.  Returns it if somebody has it still: then the
// layer goes on.
std::shared_ptr<LayerImpl> object_in_use(StoreImpl& s, LayerId id) LCFS_REQUIRES(structure) {
  auto object = s.registry.remove(id);
  if (!object) return nullptr;
  if (!s.dirty.forget_unused(object)) return object;
  object->discard();
  return nullptr;
}

// One layer; `parent`: its record, not yet written, which has a child less.
Status remove_one(StoreImpl& s, LayerInfo const& info, LayerInfo const& parent)
    LCFS_REQUIRES(structure) {
  auto& layers = s.catalog.layers;
  if (!info.anonymous) LCFS_TRY(s.catalog.names.erase(info.name));
  if (info.has_digests) LCFS_TRY(s.catalog.names.erase_digest(info.chain_id, NameType::kLayer));
  if (info.skeleton_blocks != 0) LCFS_TRY(layers.erase_skeleton(info.id));
  LCFS_TRY(layers.erase_tree_digest(info.id));
  LayerInfo dead;
  dead.id = info.id;
  dead.state = LayerState::kDying;
  dead.own_blocks = info.own_blocks;
  dead.created_ns = info.created_ns;
  LCFS_TRY(layers.put(dead));
  layers.count_removed();
  if (!info.anonymous) s.events.note(LayerEvent::kRemoved, info);

  auto const object = object_in_use(s, info.id);
  if (!object) {
    s.removed.add_dying(info.id);
    return {};
  }
  s.removed.add_in_use(info.id, object);
  // It goes on, and so must what it inherits: its parent counts as in use as long.
  std::shared_ptr<LayerImpl> base;
  if (parent.id != 0) {
    LCFS_TRY_ASSIGN(base, s.registry.object(parent));
  }
  object->removed(std::move(base));
  return {};
}

}  // namespace

Result<LayerId> remove_layer(StoreImpl& s, LayerInfo info) {
  if (info.children != 0) {
    return Error::busy(fmt::format("layer '{}' has {} child layer(s); remove them first", info.name,
                                   info.children))
        .in(s.device.name());
  }
  if (info.images != 0) {
    return Error::busy(fmt::format("{1} image(s) use layer '{0}'; remove them with lcfs image rm",
                                   info.name, info.images))
        .in(s.device.name());
  }
  for (;;) {
    LayerInfo parent;
    if (info.parent != 0) {
      LCFS_TRY_ASSIGN(parent, s.catalog.layers.record(info.parent));
      --parent.children;
    }
    LCFS_TRY(remove_one(s, info, parent));
    if (parent.id == 0) return LayerId{0};
    if (!parent.anonymous || parent.children != 0 || parent.images != 0) {
      LCFS_TRY(s.catalog.layers.put(parent));
      return parent.id;
    }
    info = std::move(parent);
  }
}

Status make_anonymous(StoreImpl& s, LayerInfo info) {
  if (info.anonymous) return {};
  LCFS_TRY(s.catalog.names.erase(info.name));
  s.events.note(LayerEvent::kRemoved, info);
  info.anonymous = true;
  return s.catalog.layers.put(info);
}

Status remove_image(StoreImpl& s, ImageId id, std::string_view name) {
  auto& layers = s.catalog.layers;
  LCFS_TRY_ASSIGN(ImageDetails image, s.catalog.images.details(id));
  if (!name.empty()) {
    LCFS_TRY(s.catalog.images.drop_name(image, name));
    if (image.info.name_count != 0) return {};
  }
  LCFS_TRY(s.catalog.images.erase(image));
  LayerId at = image.info.top_layer;
  bool top = true;
  while (at != 0) {
    LCFS_TRY_ASSIGN(LayerInfo info, layers.record(at));
    if (std::exchange(top, false)) --info.images;
    // A layer that a user named is that user's work: it stays until it is removed by that name.
    bool const goes =
        info.children == 0 && info.images == 0 && (info.anonymous || named_by_chain(info));
    if (!goes) return layers.put(info);
    LCFS_TRY_ASSIGN(at, remove_layer(s, std::move(info)));
  }
  return {};
}

}  // namespace lcfs
